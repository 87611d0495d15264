"""How several devices, or machines, share the steps of one training, through `tf.distribute`."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from conf.checks import ConfigError, first_line
from conf.workers import is_chief

GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.InternalError,
    tf.errors.DeadlineExceededError,
)
"""What TensorFlow raises, as the case may be, where another process no longer answers."""


class Replicas:
    """Copies of a model, one a device, that share each batch.

    What costs is shared: encoder and decoder, there and back. The latent is small, so each replica has that of all of
    the batch: its statistics and a strategy's noise are then those of one device, and no strategy knows of this. With
    one replica `share`, `whole` and `total` give back what they get.

    Args:
        strategy: TensorFlow's; None for one device.
    """

    one_process = True

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync if strategy else 1

    def scope(self) -> AbstractContextManager[Any]:
        """Where the weights are made, and the optimizer."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def together(self, checkpoint: Path) -> AbstractContextManager[Any]:
        """Around a training: `Workers` have something to do there."""
        return contextlib.nullcontext()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function in each replica, which must return the same in all of them, and returns that."""
        if not self.strategy:
            return function(*arguments)
        results = self.strategy.run(function, arguments)
        return tf.nest.map_structure(lambda values: self.strategy.experimental_local_results(values)[0], results)

    # Within `run`:

    def share(self, whole: tf.Tensor) -> tf.Tensor:
        """This replica's part of `[batch, ...]`; parts are of one size, the last ones filled up with zeros."""
        if not self.strategy:
            return whole
        batch = _batch(whole)
        size = (batch + self.count - 1) // self.count
        filled = tf.pad(whole, [[0, size * self.count - batch], *[[0, 0]] * (len(whole.shape) - 1)])
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        return filled[place * size : (place + 1) * size]

    def whole(self, part: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
        """`[batch, ...]` of all parts, without what filled them up; gradients find their way back.

        Args:
            part: this replica's.
            like: as long as the whole.
        """
        if not self.strategy:
            return part
        parts = tf.distribute.get_replica_context().all_gather(part, axis=0)
        return tf.ensure_shape(parts[: _batch(like)], [like.shape[0], *part.shape[1:]])

    def mean(self, part: tf.Tensor) -> tf.Tensor:
        """What this replica adds to the mean over all parts, whose `total` that is."""
        return tf.reduce_mean(part) / self.count if self.strategy else tf.reduce_mean(part)

    def total(self, values: Any) -> Any:
        """The sums over all replicas of what they add, tensors in any structure."""
        if not self.strategy:
            return values
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


class Workers(Replicas):
    """Replicas in several processes, of which each does all that a single one does, but for its share of each batch."""

    one_process = False

    @contextlib.contextmanager
    def together(self, checkpoint: Path) -> Iterator[None]:
        """Around a training: all go on from the chief's checkpoint, and end if one of them does.

        Args:
            checkpoint: where each has its own; the chief's takes the place of the others'.

        Raises:
            ConfigError: another process is gone.
        """
        try:
            self._hand_out(checkpoint)
            yield
        except GONE as error:
            advice = "start all of them again, and the run goes on"
            raise ConfigError(f"another worker is gone ({first_line(error)[:160]}): {advice}") from error

    def _hand_out(self, path: Path) -> None:
        content = np.fromfile(path, np.uint8) if path.exists() else np.zeros(0, np.uint8)
        (size,) = self._from_chief(np.array([len(content)]))
        if size:  # collective operations on nothing end the process
            content = self._from_chief(content if is_chief() else np.zeros(size))
        if size and not is_chief():
            content.astype(np.uint8).tofile(path)

    def _from_chief(self, values: np.ndarray) -> np.ndarray:
        def of_first_replica(values: tf.Tensor) -> tf.Tensor:
            place = tf.distribute.get_replica_context().replica_id_in_sync_group
            return self.total(tf.where(place == 0, values, 0))

        summed = tf.function(lambda values: self.run(of_first_replica, values), autograph=False)
        return summed(tf.constant(values, tf.int32)).numpy()


def replicas(distribute: str, batch_size: int) -> Replicas:
    """One (`none`), one a device of this machine (`mirrored`), or one a device of all workers' machines.

    Raises:
        ConfigError: a batch can't be divided among them, or the workers don't find each other.
    """
    if distribute == "none":
        return Replicas()
    strategy = _mirrored() if distribute == "mirrored" else _multi_worker()
    count = strategy.num_replicas_in_sync
    if batch_size % count:
        raise ConfigError(f"batch_size={batch_size} must be a multiple of {count}, the replicas of {distribute=!s}")
    if count == 1:
        return Replicas()
    return Replicas(strategy) if distribute == "mirrored" else Workers(strategy)


@functools.cache  # another one would begin again to count collective operations, which this process has counted already
def _mirrored() -> tf.distribute.Strategy:
    # As TensorFlow chooses by itself, but for CPUs, of which it takes the first; there are several only in tests.
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@functools.cache
def _multi_worker() -> tf.distribute.Strategy:  # once in a process, before TensorFlow's first operation
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        raise ConfigError(f"distribute=multi_worker: TF_CONFIG's workers do not meet: {first_line(error)}") from error


def _batch(tensor: tf.Tensor) -> Any:
    return tf.shape(tensor)[0] if tensor.shape[0] is None else tensor.shape[0]
