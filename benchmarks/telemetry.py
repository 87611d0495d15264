"""Telemetry: what it costs to look."""

import contextlib
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

import train
from benchmarks.timing import in_turns, ratio, table, verdict
from conf import compose
from conf.checks import check
from data.pipeline import training_batches
from models.autoencoder import Trainer
from models.training import Steps
from telemetry.callbacks import Quality
from telemetry.run import RunDirectory
from telemetry.tensorboard import TensorBoard

CASES = {
    "image_mlp": ([], 0.05, 31, 120),
    "image_conv": (["model=image_conv"], 0.03, 31, 20),
    "audio_conv": (["data=espeak_digits"], 0.03, 10, 20),
}
"""Words, goal, steps of an epoch, rounds: a small step is a noisy one."""

RUNS = ("image_mlp", "image_conv")  # those of audio take minutes


def plain(trainer: Trainer, x: tf.Tensor) -> tf.Tensor:
    """`Trainer.train_step` without anything that is only measured."""
    model = trainer.autoencoder
    with tf.GradientTape() as tape:
        code = model.soften(model.encode(x, training=True), tf.zeros(2, tf.int32))
        loss = tf.reduce_mean(trainer.error(x, model.decode(code, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    trainer.optimizer.apply(gradients, model.trainable_variables)
    model.step.assign_add(1)
    return loss


def epochs_of(words: list[str], count: int) -> dict[str, Callable[[], None]]:
    """Calls of an epoch of so many steps, with and without what is measured."""

    def epoch(measured: bool) -> Callable[[], None]:
        splits, trainer = train.build(compose([*words, "output_dir=unused"]))
        trainer.update_ratios.steps = count
        if not measured:
            trainer.train_step = functools.partial(plain, trainer)  # type: ignore[method-assign]
        steps = Steps(trainer, iter(training_batches(splits.train, trainer.batch_size, 0, 0, epochs=100_000)))

        def call() -> None:
            taken = 0
            while taken < count:
                with trainer.update_ratios.of_step(taken) if measured else contextlib.nullcontext():
                    taken += steps.take(max(1, count - 1 - taken))

        return call

    return {"measured": epoch(True), "plain": epoch(False)}


@contextlib.contextmanager
def timed(owner: type, name: str, seconds: defaultdict[str, float]) -> Iterator[None]:
    """Adds up what calls of a method take."""
    method = getattr(owner, name)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*arguments, **options)
        finally:
            seconds[name] += time.perf_counter() - began

    setattr(owner, name, wrapper)
    try:
        yield
    finally:
        setattr(owner, name, method)


def looked_at(words: list[str]) -> tuple[float, float]:
    """The seconds that pictures and the quality of the gradient take of a whole run, and the run's."""
    seconds: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        for name, more in {"warm_up": ["epochs=1"], "run": []}.items():
            cfg = compose([*words, *more, f"output_dir={folder}/{name}"])
            splits, trainer = train.build(cfg)
            run = RunDirectory(check(cfg))
            with run.claim(), timed(TensorBoard, "_show", seconds), timed(Quality, "on_epoch_end", seconds):
                seconds.clear()
                began = time.perf_counter()
                train.fit(run, trainer, splits)
                whole = time.perf_counter() - began
    return sum(seconds.values()), whole


def run() -> str:
    """The section."""
    steps, runs = [], []
    for name, (words, goal, count, rounds) in CASES.items():
        seconds = in_turns(epochs_of(words, count), rounds, warm_up=2)
        cost = ratio(seconds, "measured", "plain") - 1
        steps.append((name, verdict(cost, goal, at_most=True)))
    for name in RUNS:
        looked, whole = looked_at(CASES[name][0])
        runs.append((name, looked, whole, verdict(looked / whole, 0.05, at_most=True)))
    return f"""What gradient flow, update-to-weight ratios and the rest of what is logged each epoch add to a step, as a
share of the same step without them:

{table(["model", "added to a step"], steps)}
What pictures, histograms and the quality of the gradient take of the 60 epochs of `python train.py`, in a process that
has imported Matplotlib: little of a longer run.

{table(["model", "seconds to look", "seconds of the run", "share"], runs)}"""
