"""Telemetry: what it costs to look."""

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import tensorflow as tf

import train
from benchmarks.timing import in_turns, ratio, table, verdict
from conf import compose
from conf.checks import check
from models.autoencoder import Trainer
from telemetry.callbacks import Quality
from telemetry.run import RunDirectory
from telemetry.tensorboard import TensorBoard

CASES = {
    "image_mlp": ([], 0.05, 30),
    "image_conv": (["model=image_conv"], 0.03, 5),
    "audio_conv": (["data=espeak_digits"], 0.03, 2),
}


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


def steps_of(words: list[str], count: int) -> dict[str, Callable[[], None]]:
    """Calls of so many steps, with and without what is measured."""
    splits, measured = train.build(compose([*words, "output_dir=unused"]))
    other = train.build(compose([*words, "output_dir=unused"]))[1]
    x = splits.train[: measured.batch_size]
    whole, numbers = tf.function(measured.train_step, autograph=False), itertools.count()

    def looked_at(x: tf.Tensor) -> tf.Tensor:
        with measured.update_ratios.of_step(next(numbers)):
            return whole(x)

    functions = {"measured": looked_at, "plain": tf.function(lambda x: plain(other, x), autograph=False)}

    def calls(step: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[], None]:
        def call() -> None:
            for _ in range(count):
                loss = step(x)
            loss.numpy()

        return call

    return {name: calls(step) for name, step in functions.items()}


def timed(owner: type, name: str, seconds: defaultdict[str, float]) -> None:
    """Adds up what calls of a method take."""
    method = getattr(owner, name)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*arguments, **options)
        finally:
            seconds[name] += time.perf_counter() - began

    setattr(owner, name, wrapper)


def default_run(words: list[str]) -> tuple[float, float]:
    """The seconds that pictures and the quality of the gradient take of a whole run, and the run's."""
    seconds: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        cfg = compose([*words, f"output_dir={folder}/run"])
        splits, trainer = train.build(cfg)
        run = RunDirectory(check(cfg))
        with run.claim():
            train.fit(run, trainer, splits)
            seconds.clear()
        timed(TensorBoard, "_show", seconds)
        timed(Quality, "on_epoch_end", seconds)
        again = RunDirectory(check(compose([*words, f"output_dir={folder}/again"])))
        splits, trainer = train.build(cfg)
        with again.claim():
            began = time.perf_counter()
            train.fit(again, trainer, splits)
            return sum(seconds.values()), time.perf_counter() - began


def run() -> str:
    """The section."""
    rows = []
    for name, (words, goal, count) in CASES.items():
        seconds = in_turns(steps_of(words, count), rounds=20, warm_up=2)
        cost = ratio(seconds, "measured", "plain") - 1
        rows.append((name, verdict(cost, goal, at_most=True)))
    looked, whole = default_run([])
    share = verdict(looked / whole, 0.05, at_most=True)
    return f"""What gradient flow, update-to-weight ratios and the rest of what is logged each epoch add to a step, as a
share of the same step without them:

{table(["model", "added to a step"], rows)}
Pictures, histograms and the quality of the gradient take {looked:.1f} of the {whole:.0f} seconds of `python train.py`,
in a second run of one process (without Matplotlib's import): {share}.
"""
