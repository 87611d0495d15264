"""Time and memory against the size of things."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf

from benchmarks.timing import table, verdict
from conf import compose
from conf.checks import members

EXAMPLES = (5_000, 60_000, 600_000)
UNITS = (16, 64, 256, 1024)
BATCH_SIZES = (32, 128, 512)
RUNS = (10, 100, 1000)

STRATEGIES = 10

IN_MEMORY, ON_DISK = 1000, 0
"""`cache_gb`, so that every set is held in memory, or none."""

GROWTH = 1.5
"""Of the time of one, from the smallest to the largest, where the number of them is all that grows."""

TRAINING = """
import json, resource, sys, time
import tensorflow as tf
import data.mnist_5k, train
from conf import compose
from data.pipeline import Splits

count, folder, *words = sys.argv[1:]

def noise(examples, seed):
    def some(number):
        return tf.random.stateless_uniform([500, 28, 28, 1], [seed, tf.cast(number, tf.int32)])
    return tf.data.Dataset.range(examples // 500).map(some).unbatch().apply(
        tf.data.experimental.assert_cardinality(examples))

def peak_gb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

def read_and_told(*arguments):
    peak, began = peak_gb(), time.perf_counter()
    splits = read(*arguments)
    told.update(read=time.perf_counter() - began, before=peak)
    return splits

told = {}
import data.pipeline
read, data.pipeline.read = data.pipeline.read, read_and_told
data.mnist_5k.load = lambda data_dir=None: Splits(noise(int(count), 0), noise(500, 1), noise(500, 2))
result = train.train(compose(["epochs=1", f"output_dir={folder}", *words]))
print(json.dumps({**told, "peak": peak_gb(), **result}))
"""

COMPARISON = """
import resource, sys, time
from pathlib import Path
import pandas
from compare import compare
began = time.perf_counter()
compare(Path(sys.argv[1]), {}, "rounding", "val_loss", Path(sys.argv[2]))
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
"""


def run() -> str:
    """The section."""
    with tempfile.TemporaryDirectory() as name:
        return "\n".join([_data_sets(Path(name)), _sizes(Path(name)), _comparisons(Path(name))])


def _data_sets(folder: Path) -> str:
    told = {
        (count, cache): _train(folder, count, f"cache_gb={cache}")
        for cache in (IN_MEMORY, ON_DISK)
        for count in EXAMPLES
    }
    rows = [
        [
            f"{count:,}",
            "disk" if cache == ON_DISK else "memory",
            count * 28 * 28 * 4 / 1e9,
            one["read"],
            count / one["examples_per_second"],
            one["peak"] - one["before"],
        ]
        for (count, cache), one in told.items()
    ]
    speed = {key: one["examples_per_second"] for key, one in told.items()}
    small, large = EXAMPLES[1], EXAMPLES[-1]
    peaks = [told[count, ON_DISK]["peak"] for count in EXAMPLES]
    return "\n".join(
        [
            "Default runs of one epoch on 28x28 noise, a process each, once. The peak is what is added to the "
            "memory of a process that has TensorFlow imported. On disk are sets of more than `cache_gb` (4: of 1.3 "
            "million such images).",
            "",
            table(["examples", "held in", "GB", "s to read", "s an epoch", "GB at the peak"], rows),
            f"- An example's time in training, {large:,} against {small:,} examples, in memory: "
            f"{verdict(speed[small, IN_MEMORY] / speed[large, IN_MEMORY], GROWTH, True)}",
            f"- The same from disk: {verdict(speed[small, ON_DISK] / speed[large, ON_DISK], GROWTH, True)}",
            f"- From disk against from memory, {large:,} examples: "
            f"{verdict(speed[large, IN_MEMORY] / speed[large, ON_DISK], GROWTH, True)}",
            f"- A process's peak, {large:,} examples on disk against {EXAMPLES[0]:,}: "
            f"{verdict(peaks[-1] / peaks[0], GROWTH, True)}",
            "",
        ]
    )


def _sizes(folder: Path) -> str:
    lines = []
    for key, values in (("latent.units", UNITS), ("batch_size", BATCH_SIZES)):
        told = [_train(folder, 20_000, f"{key}={value}") for value in values]
        rows = [
            [value, one["parameters"], 1e6 / one["examples_per_second"], one["peak"] - one["before"]]
            for value, one in zip(values, told, strict=True)
        ]
        lines.append(table([f"`{key}`", "parameters", "µs an example", "GB at the peak"], rows))
    return "20,000 such examples in memory:\n\n" + "\n".join(lines)


def _comparisons(folder: Path) -> str:
    times, rows = [], []
    for count in RUNS:
        runs = folder / f"runs{count}"
        _make_runs(runs, count)
        done = _python(COMPARISON, str(runs), str(folder / "comparison")).split()
        seconds, peak = map(float, done[-2:])
        times.append(seconds)
        rows.append([f"{count:,}", seconds, 1000 * seconds / count, peak])
    sooner, later = (np.diff(times) / np.diff(RUNS)).tolist()
    return "\n".join(
        [
            f"`compare.py` over made-up runs of {STRATEGIES} strategies, 20 epochs and 40 columns each, without "
            "their own pictures:",
            "",
            table(["runs", "seconds", "ms a run", "GB at the peak"], rows),
            f"- A further run's time, between {RUNS[1]} and {RUNS[2]} runs against between {RUNS[0]} and {RUNS[1]}: "
            f"{verdict(later / sooner, GROWTH, True)}",
        ]
    )


def _make_runs(folder: Path, count: int) -> None:
    """Folders as `train.py` leaves them, the parts that a comparison reads."""
    generator = np.random.default_rng(0)
    for name in members("rounding")[:STRATEGIES]:
        config: Any = OmegaConf.to_container(compose([f"rounding={name}"]))
        for seed in range(count // STRATEGIES):
            path = folder / name / f"seed={seed}"
            path.mkdir(parents=True)
            curves = np.exp(-generator.uniform(0, 4, (20, 40)))
            columns = [
                "epoch",
                "val_loss",
                "val_gap",
                "gradient_flow/transmission",
                *(f"column_{n}" for n in range(37)),
            ]
            lines = [",".join(map(str, [epoch + 1, *row])) for epoch, row in enumerate(curves)]
            (path / "metrics.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
            result: dict[str, Any] = {
                key: float(curves[-1, 0]) for key in ("val_loss", "test_loss", "val_gap", "bits_per_example")
            }
            result |= {"status": "finished", "epochs": 20, "config": {**config, "seed": seed}}
            (path / "result.json").write_text(json.dumps(result))
            (path / "config.yaml").write_text(yaml.safe_dump(result["config"]))


def _train(folder: Path, count: int, *words: str) -> dict[str, float]:
    """What a run of one epoch on so many examples has to tell."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        told: dict[str, float] = json.loads(_python(TRAINING, str(count), output + "/run", *words).splitlines()[-1])
    return told


def _python(program: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return done.stdout
