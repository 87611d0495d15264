"""What the Markdown files say: links lead somewhere, commands compose, the table is the one that was measured."""

import inspect
import re
import shlex

import pandas as pd
import pytest
from conftest import ROOT, members
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

from codec import COMMANDS
from conf import compose
from conf.checks import check

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKS = [
    (file, link) for file in FILES for link in re.findall(r"\]\(([^)\s]+)\)", file.read_text()) if "://" not in link
]
CONFIGS = {"train.py": "config", "compare.py": "compare", "gallery.py": "gallery"}
COMMAND = re.compile(r"python (\w+\.py)( [^`\n]*)?")
NOT_THERE = "smoothstep"  # the README's example of a strategy to be added


def commands():
    """Program and words of each command that is written out, as `python ...` in a line or between backticks."""
    for file in FILES:
        for match in COMMAND.finditer(file.read_text()):
            words = shlex.split(match[2] or "", comments=True)
            if words != ["--help"] and not any(NOT_THERE in word for word in words):
                yield pytest.param(match[1], words, id=f"{file.relative_to(ROOT)}: {' '.join([match[1], *words])}")


def anchors(file):
    """The names that GitHub gives a file's headings."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("file", "link"), LINKS, ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_a_link_leads_somewhere(file, link):
    path, _, anchor = link.partition("#")
    target = (file.parent / path).resolve() if path else file
    assert target.is_relative_to(ROOT)
    assert target.exists()
    if anchor:
        assert anchor in anchors(target / "README.md" if target.is_dir() else target)


@pytest.mark.parametrize(("program", "words"), list(commands()))
def test_a_command_composes(program, words):
    if program == "codec.py":
        command, *words = words
        assert {word.split("=")[0] for word in words} == set(inspect.signature(COMMANDS[command]).parameters)
        return
    cfg = compose([first_choice(word) for word in words if "=" in word], CONFIGS[program])
    if program == "train.py":
        check(cfg)


def first_choice(word):
    """Of a word that a sweep takes several values from."""
    (override,) = OverridesParser.create().parse_overrides([word])
    if not override.is_sweep_override():
        return word
    values = override.value()
    value = members(override.key_or_group)[0] if isinstance(values, Glob) else next(override.sweep_string_iterator())
    return f"{override.key_or_group}={value}"


def test_the_readmes_table_is_the_one_that_was_measured():
    columns, rows = table(ROOT / "docs/results/compare_all/table.md", "latent")
    measured = pd.DataFrame(rows, columns=columns)
    measured = measured.set_index(["latent", "rounding"])[["hard test loss", "p vs best", "val gap"]]
    (_, *columns), rows = table(ROOT / "README.md", "rounding")
    assert len(columns) == 6
    assert {name: values for name, *values in rows} == {
        f"`{name}`": [*measured.loc["`binary`", f"`{name}`"], *measured.loc["`integer`", f"`{name}`"]]
        for name in members("rounding")
    }


def table(file, head):
    """Columns and rows of a file's table, whose first column is `head`."""
    text = file.read_text()
    lines = text[text.index(f"| {head} |") :].partition("\n\n")[0].splitlines()
    columns, _, *rows = [line.strip("| ").split(" | ") for line in lines]
    return columns, rows
