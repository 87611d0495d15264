"""The epochs of a training."""

from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from conf.signals import Interrupted, Signals
from data.pipeline import Splits, evaluation_batches, training_batches
from models.autoencoder import Trainer
from telemetry.checkpoint import Checkpoint
from telemetry.tensorboard import CLOSE_UPS_PER_RUN, due


def train_epochs(
    trainer: Trainer, splits: Splits, epochs: int, checkpoint: Checkpoint, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """What `keras.Model.fit` does, from the checkpoint on; `fit` can neither begin nor end within an epoch.

    Args:
        trainer: compiled.
        splits: the examples.
        epochs: of the whole run; fewer are trained if a callback sets `trainer.stop_training`.
        checkpoint: of this trainer.
        callbacks: told of the beginning and end of training, epochs and validation, and of each step, without logs.

    Raises:
        Interrupted: by SIGINT or SIGTERM; the checkpoint has been saved.
    """
    told = keras.callbacks.CallbackList([*callbacks], model=trainer)
    batches = iter(training_batches(splits.train, trainer.batch_size, trainer.seed, checkpoint.step, epochs))
    validation = evaluation_batches(splits.validation, trainer.batch_size)
    # Not Keras's `train_function`, which takes a tenth longer.
    step = tf.function(trainer.train_step, jit_compile=trainer.jit_compile, autograph=False)
    trainer.stop_training = False
    told.on_train_begin()
    with Signals().handled() as signals:
        try:
            while checkpoint.epoch < epochs and not trainer.stop_training:
                closely = due(checkpoint.epoch + 1, epochs, CLOSE_UPS_PER_RUN)
                _train(trainer, step, batches, closely, checkpoint, told, signals)
                with signals.anywhere():
                    logs = _measured(trainer, validation, told)
                    told.on_epoch_end(checkpoint.epoch, logs)
                checkpoint.end_epoch(logs["val_loss"])
                if not trainer.stop_training:
                    signals.check()
        except Interrupted:
            checkpoint.save()
            checkpoint.write_best()
            raise
        finally:
            checkpoint.close()
    checkpoint.write_best()
    told.on_train_end()


def _train(
    trainer: Trainer,
    step: Callable[[tf.Tensor], tf.Tensor],
    batches: Iterator[tf.Tensor],
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
    while checkpoint.step < last:
        with trainer.update_ratios.of_step(checkpoint.step):
            step(next(batches))
        checkpoint.end_step()
        told.on_train_batch_end(checkpoint.step - first - 1)
        signals.check()


def _measured(trainer: Trainer, validation: tf.data.Dataset, told: keras.callbacks.Callback) -> dict[str, float]:
    """The numbers of an epoch, by tag."""
    validated = trainer.evaluate(validation, return_dict=True, callbacks=told)
    trained = {tag: float(value) for tag, value in sorted(trainer.measured().items())}
    return {**trained, **{f"val_{tag}": value for tag, value in validated.items()}}
