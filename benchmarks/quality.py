"""Time to quality: until the hard validation loss of the default run is 0.022."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import table
from telemetry.records import read_metrics

LOSS = 0.022


def seconds_to_quality(folder: Path, seed: int) -> tuple[float, int, float]:
    """Of a process that is watched from outside: seconds and epochs to the loss, and the run's test loss."""
    line = [sys.executable, "train.py", f"seed={seed}", f"output_dir={folder}"]
    began, reached = time.perf_counter(), None
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(0.05)
        losses = [float(row["val_loss"]) for row in read_metrics(folder / "metrics.csv")]
        if reached is None and losses and min(losses) <= LOSS:
            reached = time.perf_counter() - began, len(losses)
    if reached is None:
        raise RuntimeError(f"seed {seed} never had a loss of {LOSS}")
    return *reached, json.loads((folder / "result.json").read_text())["test_loss"]


def run() -> str:
    """The section."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [seconds_to_quality(Path(folder, str(seed)), seed) for seed in range(3)]
    rows = [(seed, *one) for seed, one in enumerate(runs)]
    rows.append(("median", *(statistics.median(column) for column in zip(*runs, strict=True))))
    return f"""`python train.py`, from the command on, until a row of `metrics.csv` has a hard validation loss of {LOSS}
or less; each seed in a process of its own.

{table(["seed", "seconds", "epochs", "hard test loss in the end"], rows)}"""
