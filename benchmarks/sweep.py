"""Twelve short runs: one command after the other, or one sweep."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import in_turns, ratio, table, verdict

EPOCHS = 3
STRATEGIES = ("straight_through", "soft_round", "uniform_noise")
SEEDS = range(4)
ROUNDS = 1
GOAL = 0.4


def run() -> str:
    """The section."""
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), len(STRATEGIES) * len(SEEDS)
        numbers = iter(range(1000))

        def runs() -> str:
            return f"runs={folder / str(next(numbers))}"

        def separate() -> None:
            where = runs()
            for strategy in STRATEGIES:
                for seed in SEEDS:
                    _train(folder, where, f"rounding={strategy}", f"seed={seed}")

        def sweep() -> None:
            strategies, seeds = ",".join(STRATEGIES), ",".join(map(str, SEEDS))
            _train(folder, "-m", runs(), f"rounding={strategies}", f"seed={seeds}", "hydra/launcher=joblib")

        _train(folder, runs())  # prepares the data
        ways = {"commands, one after the other": separate, "one sweep, `-m hydra/launcher=joblib`": sweep}
        seconds = in_turns(ways, ROUNDS, warm_up=0)
    first, last = ways
    rows = [[way, min(seconds[way]), ratio(seconds, way, first)] for way in ways]
    return "\n".join(
        [
            f"{count} default runs of {EPOCHS} epochs ({len(STRATEGIES)} strategies, {len(SEEDS)} seeds), all in all, "
            f"{ROUNDS} round. The sweep has a worker for each of the {os.cpu_count()} cores.",
            "",
            table([f"{count} runs by", "seconds", "of the commands' time"], rows),
            f"Parallel sweep against commands: {verdict(ratio(seconds, last, first), GOAL, at_most=True)}.",
        ]
    )


def _train(folder: Path, *words: str) -> None:
    environment = {**os.environ, "TFDS_DATA_DIR": str(folder / "data")}
    line = [sys.executable, "train.py", *words, f"epochs={EPOCHS}"]
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
