"""From the command to its answer, or to the first training step."""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import in_turns, ratio, table, verdict

ROUNDS = 5
NEEDLESS = ("matplotlib", "optuna", "pandas", "sklearn")
"""Installed here, and needed by no training step."""

# Each ends at once, since what a process does after its last line takes some time, too.
IMPORT = "import os, tensorflow; os._exit(0)"
BUILD = """
import os, tensorflow, keras
from keras import layers
encoder = keras.Sequential([
    keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(512, activation="relu"),
    layers.Dense(256, activation="relu"), layers.Dense(64),
])
decoder = keras.Sequential([
    keras.Input((64,)), layers.Dense(256, activation="relu"), layers.Dense(512, activation="relu"),
    layers.Dense(784, activation="sigmoid"), layers.Reshape((28, 28, 1)),
])
model = keras.Sequential([encoder, decoder])
model.compile(optimizer=keras.optimizers.AdamW(0.002), loss="mse")
os._exit(0)
"""
FIRST_STEP = f"""
import os, sys
import train

build = train.build

def build_and_end_soon(cfg):
    built = build(cfg)
    from telemetry.checkpoint import Checkpoint
    Checkpoint.end_steps = end
    return built

def end(checkpoint, count):
    float(checkpoint.trainer.measured()["loss"])
    print(*(name for name in {NEEDLESS} if name in sys.modules), flush=True)
    os._exit(0)

train.build = build_and_end_soon
train.main()
"""

TENSORFLOW, KERAS, STEP = "`import tensorflow`", "plain Keras: import, model, `compile`", "`train.py` to its first step"
AT_ONCE = {
    "`train.py --help`": ["--help"],
    "a key that does not exist": ["rounding.typo=1"],
    "a member that does not exist": ["rounding=typo"],
    "a value out of range, told by the schema": ["epochs=0"],
}
LATER = {
    "a value out of range, told by the strategy": ["rounding=soft_round", "rounding.alpha=-1"],
    "a data set that does not exist": ["data=tfds_image", "data.name=typo"],
}


def run() -> str:
    """The section."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [f"runs={folder}/runs", "resume=false"]

        def call(*words: str) -> Callable[[], str]:
            return lambda: _python(Path(folder), *words)

        answers = {what: call("train.py", *words, *runs[:-1]) for what, words in {**AT_ONCE, **LATER}.items()}
        answers["`train.py --help`"] = call("train.py", "--help")
        first_step = call("-c", FIRST_STEP, *runs)
        first_step()  # prepares the data
        needless = first_step().splitlines()[-1].split()
        seconds = in_turns(
            {TENSORFLOW: call("-c", IMPORT), KERAS: call("-c", BUILD), STEP: first_step, **answers}, ROUNDS
        )
    rows = [[what, statistics.median(times), ratio(seconds, what, TENSORFLOW)] for what, times in seconds.items()]
    slowest = max(statistics.median(seconds[what]) for what in AT_ONCE)
    return "\n".join(
        [
            f"Whole processes, medians of {ROUNDS} rounds in turns; the data is prepared before. "
            f"At its first step, `train.py` has imported {' and '.join(needless) or 'none'} of {', '.join(NEEDLESS)}.",
            "",
            table(["process", "seconds", "times `import tensorflow`"], rows),
            f"- What Hydra or the schema sees, seconds at most: {verdict(slowest, 1, at_most=True)}",
            *(
                f"- {what.capitalize()}, against the import: {verdict(ratio(seconds, what, TENSORFLOW), 1.5, True)}"
                for what in LATER
            ),
            f"- First step, against plain Keras's import and model: {verdict(ratio(seconds, STEP, KERAS), 1.5, True)}",
        ]
    )


def _python(folder: Path, *words: str) -> str:
    environment = {**os.environ, "TFDS_DATA_DIR": str(folder / "data"), "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode()
