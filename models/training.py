"""The epochs of a training."""

import time
from collections.abc import Iterable, Iterator, Sequence

import keras
import tensorflow as tf

from conf.signals import Interrupted, Signals
from data.pipeline import Splits, evaluation_batches, training_batches
from models.autoencoder import Trainer
from telemetry.checkpoint import Checkpoint
from telemetry.tensorboard import CLOSE_UPS_PER_RUN, due

SECONDS_A_CALL = 0.1
"""Of Python, which sees signals between calls, and moves the progress bar."""


def train_epochs(
    trainer: Trainer, splits: Splits, epochs: int, checkpoint: Checkpoint, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """What `keras.Model.fit` does, from the checkpoint on; `fit` can neither begin nor end within an epoch.

    Args:
        trainer: compiled.
        splits: the examples.
        epochs: of the whole run; fewer are trained if a callback sets `trainer.stop_training`.
        checkpoint: of this trainer.
        callbacks: told of the beginning and end of training, epochs and validation, and of the last of the steps that
            were taken at once, without logs.

    Raises:
        Interrupted: by SIGINT or SIGTERM; the checkpoint has been saved.
    """
    told = keras.callbacks.CallbackList([*callbacks], model=trainer)
    batches = training_batches(splits.train, trainer.batch_size, trainer.seed, checkpoint.step, epochs)
    steps = Steps(trainer, iter(batches))
    validation: Iterable[tf.Tensor] = evaluation_batches(splits.validation, trainer.batch_size)
    if isinstance(splits.validation, tf.Tensor):
        validation = list(validation)  # a new iterator takes as long as the validation of a small set
    trainer.stop_training = False
    told.on_train_begin()
    with Signals().handled() as signals:
        try:
            checkpoint.write_best()  # a run that diverged has left newer ones, which more epochs in all will not meet
            while checkpoint.epoch < epochs and not trainer.stop_training:
                closely = due(checkpoint.epoch + 1, epochs, CLOSE_UPS_PER_RUN)
                _train(trainer, steps, closely, checkpoint, told, signals)
                with signals.anywhere():
                    logs = _measured(trainer, validation, told)
                    told.on_epoch_end(checkpoint.epoch, logs)
                checkpoint.end_epoch(logs["val_loss"])
                if not trainer.stop_training:
                    signals.check()
            checkpoint.finish()
        except Interrupted:
            checkpoint.finish()
            raise
        finally:
            checkpoint.close()
    told.on_train_end()


class Steps:
    """Training steps in calls of `SECONDS_A_CALL`; each is the same, bit for bit, however many go into one call.

    A loop in the graph, since a call by itself takes a sixth of a small model's step, and Keras's `train_function` a
    tenth more.

    Args:
        trainer: compiled.
        batches: what they train on.
    """

    def __init__(self, trainer: Trainer, batches: Iterator[tf.Tensor]) -> None:
        step = tf.function(trainer.train_step, jit_compile=trainer.jit_compile, autograph=False)

        @tf.function(autograph=False)
        def loop(count: tf.Tensor) -> tf.Tensor:
            def one(number: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return number + 1, step(next(batches))

            return tf.while_loop(lambda number, _: number < count, one, (0, 0.0), parallel_iterations=1)[1]

        self.loop, self.at_once = loop, 1
        # Processes find each other's part of a sum by its place in the loop, which must be the same in all of them.
        self.adapt = trainer.replicas.one_process

    def take(self, most: int) -> int:
        """Takes some steps, 1 to `most`, and returns how many."""
        count, began = min(self.at_once, most), time.perf_counter()
        self.loop(tf.constant(count)).numpy()
        if self.adapt:
            self.at_once = max(1, int(count * SECONDS_A_CALL / (time.perf_counter() - began)))
        return count


def _train(
    trainer: Trainer,
    steps: Steps,
    closely: bool,
    checkpoint: Checkpoint,
    told: keras.callbacks.Callback,
    signals: Signals,
) -> None:
    """The steps that the checkpoint's epoch still lacks: none, if it was interrupted after them."""
    first, last = checkpoint.epoch * trainer.steps, (checkpoint.epoch + 1) * trainer.steps
    if checkpoint.step == first:
        trainer.start_epoch(closely)
    told.on_epoch_begin(checkpoint.epoch)
    while (left := last - checkpoint.step) > 0:
        with trainer.update_ratios.of_step(checkpoint.step):
            # The last one is by itself: its update is measured.
            count = steps.take(min(max(1, left - 1), checkpoint.steps_to_save()))
        checkpoint.end_steps(count)
        told.on_train_batch_end(checkpoint.step - first - 1)
        signals.check()


def _measured(trainer: Trainer, validation: Iterable[tf.Tensor], told: keras.callbacks.Callback) -> dict[str, float]:
    """The numbers of an epoch, by tag."""
    told.on_test_begin()
    validated = trainer.measure(validation)
    told.on_test_end()
    trained = {tag: float(value) for tag, value in sorted(trainer.measured().items())}
    return {**trained, **{f"val_{tag}": value for tag, value in validated.items()}}
