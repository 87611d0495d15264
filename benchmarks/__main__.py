"""python -m benchmarks [section ...]: prints the sections, and puts them into docs/benchmarks.md."""

import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
SECTIONS = ("loop", "hardware", "peers", "telemetry", "startup", "sweep", "strategies", "growth", "quality")
PROGRAM = """
import importlib, sys
from telemetry import session
session.start(None, jit_compile=False)  # quietly, and with deterministic operations, as in training
import keras
keras.utils.set_random_seed(0)
section = importlib.import_module(f"benchmarks.{sys.argv[1]}")
print("##", section.__doc__.splitlines()[0].rstrip("."), end="\\n\\n")
print(section.run())
"""
HEAD = """# How fast it is

Written by `make bench` (one section alone: `make bench ARGS=loop`). Everything is measured in turns within one run, and
said as a ratio of medians, since seconds on a busy machine mean little. Nothing here was run on a GPU.
"""


def main(chosen: list[str]) -> None:
    """Measures the chosen sections, or all, each in a process of its own, so that none finds another's memory."""
    if unknown := [name for name in chosen if name not in SECTIONS]:
        sys.exit(f"error: there is no section {unknown[0]}: choose from {', '.join(SECTIONS)}")
    for name in chosen or SECTIONS:
        began = time.perf_counter()
        print(f"{name} ...", file=sys.stderr)
        done = subprocess.run([sys.executable, "-c", PROGRAM, name], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        if done.returncode:
            sys.exit(f"error: the section {name} ended with exit status {done.returncode}")
        minutes = (time.perf_counter() - began) / 60
        put(name, f"{done.stdout.strip()}\n\n*{machine()}; {minutes:.0f} min.*\n")
        print(done.stdout)


def put(name: str, text: str) -> None:
    """Replaces a section of the page."""
    old = PAGE.read_text() if PAGE.exists() else ""
    found = re.findall(r"<!-- (\w+) -->\n(.*?)(?=<!-- \w+ -->|\Z)", old, re.DOTALL)
    sections = {**dict(found), name: text}
    PAGE.write_text(
        HEAD + "".join(f"\n<!-- {key} -->\n{sections[key].strip()}\n" for key in SECTIONS if key in sections)
    )


def machine() -> str:
    """The processor and the versions that matter."""
    names = (
        re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else []
    )
    processor = names[0] if names else platform.processor() or platform.machine()
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    python = f"Python {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores; {python}, {versions}; {time.strftime('%Y-%m-%d')}"


if __name__ == "__main__":
    main(sys.argv[1:])
