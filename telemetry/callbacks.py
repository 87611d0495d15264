"""What happens at the end of an epoch: the row in `metrics.csv`, a measurement now and then, a line on the console."""

import logging
import math
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

from models.autoencoder import Trainer
from telemetry.gradient_quality import GradientQuality
from telemetry.records import MetricsFile
from telemetry.tensorboard import due

log = logging.getLogger(__name__)

QUALITIES_PER_RUN = 4

# Names in result.json of columns of metrics.csv.
FLOW = {
    "transmission": "gradient_flow/transmission",
    "zero_fraction": "gradient_flow/zero_fraction",
    "gradient_cosine": "gradient_quality/cosine",
    "gradient_bias": "gradient_quality/bias",
    "gradient_variance": "gradient_quality/variance",
}


class Metrics(keras.callbacks.Callback):
    """Writes `metrics.csv`, and stops a run whose loss is no number any more.

    Args:
        path: of the file.
        epochs_done: by earlier sessions of this run.
    """

    def __init__(self, path: Path, epochs_done: int) -> None:
        super().__init__()
        self.file = MetricsFile(path, epochs_done)
        self.diverged_in: int | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Writes the row; epochs count from 1."""
        self.file.append({"epoch": epoch + 1, **logs})
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            self.diverged_in = epoch + 1
            self.model.stop_training = True

    def result(self) -> dict[str, Any]:
        """How the training ended, and means over all epochs of how the gradient flowed."""
        if self.diverged_in is None:
            return {"status": "finished", **self.file.means(FLOW)}
        advice = "try a smaller optimizer.learning_rate"
        reason = f"the loss is no number any more in epoch {self.diverged_in}: {advice}"
        return {"status": "diverged", "reason": reason, "val_loss": math.inf}


class Quality(keras.callbacks.Callback):
    """Now and then measures the quality of the gradient, for the epoch's logs: to stand before who reads them.

    Args:
        trainer: whose gradient.
        x: the fixed batch.
        epochs: of the whole run.
    """

    def __init__(self, trainer: Trainer, x: tf.Tensor, epochs: int) -> None:
        super().__init__()
        self.quality = GradientQuality(trainer.autoencoder, trainer.error, x, trainer.seed)
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Adds `gradient_quality/...`."""
        if due(epoch + 1, self.epochs, QUALITIES_PER_RUN):
            logs.update(self.quality.measure(epoch + 1))


class Progress(keras.callbacks.Callback):
    """A bar in a terminal, a line an epoch elsewhere and in `train.log`; and the speed.

    Args:
        epochs: of the whole run.
        steps: of an epoch.
        batch_size: of a step.
    """

    def __init__(self, epochs: int, steps: int, batch_size: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.speeds: list[float] = []
        self.bar: tqdm | None = None

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Opens the bar at the first epoch of this session."""
        self.epoch = epoch
        self.began, self.done = time.perf_counter(), int(self.model.autoencoder.step.numpy())
        if self.bar is None and sys.stderr.isatty():
            self.bar = tqdm(total=self.epochs * self.steps, initial=self.done, unit="step", dynamic_ncols=True)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Moves the bar on, by as many steps as there were since the last time."""
        if self.bar is not None:
            self.bar.update(self.epoch * self.steps + batch + 1 - self.bar.n)

    def on_test_begin(self, logs: object = None) -> None:
        """Takes the speed of the epoch's training, which validation ends."""
        seconds, steps = time.perf_counter() - self.began, int(self.model.autoencoder.step.numpy()) - self.done
        if steps:
            self.speeds.append(steps * self.batch_size / seconds)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Shows the epoch."""
        quality = next(iter(self.model.media.measures))
        shown = {key: logs[key] for key in ("loss", "val_loss", "val_soft_loss", f"val_{quality}", "val_code_usage")}
        text = "  ".join(f"{key} {value:#.4g}" for key, value in shown.items())
        line = f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}  {text}"
        if self.bar is None:
            log.info(line + (f"  {self.examples_per_second():,.0f} examples/s" if self.speeds else ""))
        else:
            log.debug(line)  # for train.log: the console listens to information only
            self.bar.set_postfix_str(f"epoch {epoch + 1}/{self.epochs}  val_loss {logs['val_loss']:.5f}")

    def on_train_end(self, logs: object = None) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.close()

    def result(self) -> dict[str, float]:
        """The speed of training, without validation, if an epoch was trained in this session."""
        return {"examples_per_second": round(self.examples_per_second(), 1)} if self.speeds else {}

    def examples_per_second(self) -> float:
        """The median over this session's epochs; the first, which traces the graph, only counts alone."""
        return statistics.median(self.speeds[1:] or self.speeds)
