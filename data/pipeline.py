"""From a data set to batches: read once, into memory or to disk, then every epoch a permutation of (seed, epoch) alone.

splits = read(hydra.utils.instantiate(cfg.data), cache_gb=4)
batches = training_batches(splits.train, batch_size=128, seed=0, first_step=0, epochs=20)
"""

import math
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import tensorflow as tf

from data.in_memory import EXAMPLES_AT_ONCE, whole
from data.memory import check_fits
from data.on_disk import OnDisk


class DataError(ValueError):
    """A data set that cannot be had as asked: the message says what is wrong and what to do, in a few lines."""


as_it_is = tf.autograph.experimental.do_not_convert
"""For functions of a data set without Python's `if` and loops on tensors: AutoGraph takes 20 ms to find none in one."""


COPIES = 2
"""Of what is held in memory: tf.data makes its own, to rewrite batches so that they come in a fixed order."""

T = TypeVar("T", tf.data.Dataset, tf.Tensor, OnDisk)


class Splits(NamedTuple, Generic[T]):
    """Three disjoint sets of examples `x`, in a fixed order.

    An image is float32 `[height, width, 1]` in [0, 1], a clip of audio float32 `[samples, 1]` in [-1, 1]. Loaders give
    data sets of single examples, of known cardinality; `read` makes tensors `[examples, ...]`, or what stands for them.
    """

    train: T
    validation: T
    test: T


def read(splits: Splits[tf.data.Dataset], cache_gb: float) -> Splits[tf.Tensor] | Splits[OnDisk]:
    """Reads all examples, once: into memory, or to disk.

    Args:
        splits: as a loader gives them.
        cache_gb: a set of more than so many 10^9 bytes goes to a temporary file, and its batches come from there.

    Raises:
        DataError: a part is empty, cannot be read, or has values that are no numbers; or the disk is full.
        ValueError: it is larger than the memory, and `cache_gb` even larger.
    """
    return on_disk(splits) if 4 * sum(map(_numbers, splits)) > cache_gb * 1e9 else in_memory(splits)


class LastRead:
    """Keeps what was read last, since the runs of a sweep mostly have the same data."""

    def __init__(self) -> None:
        self.key: tuple[str, float] | None = None
        self.splits: Any = None

    def read(
        self, name: str, load: Callable[[], Splits[tf.data.Dataset]], cache_gb: float
    ) -> Splits[tf.Tensor] | Splits[OnDisk]:
        """What `read` gives, and raises.

        Args:
            name: says all that `load` depends on.
            load: a loader, called if what was read last has another name.
            cache_gb: as for `read`.
        """
        if self.key != (name, cache_gb):
            self.key = self.splits = None  # first, for its memory
            self.splits = read(load(), cache_gb)
            self.key = (name, cache_gb)
        return self.splits


last_read = LastRead()


def in_memory(splits: Splits[tf.data.Dataset]) -> Splits[tf.Tensor]:
    """All examples as they are (float32: a gather then needs no cast), once; raises what `read` does."""

    def held(name: str, part: tf.data.Dataset) -> tf.Tensor:
        check_fits(COPIES * _numbers(part), f"the {name} set", "choose a smaller cache_gb, and it is read from disk")
        return whole(part, lambda batch: _checked(name, batch))

    return _each(held, splits)


def on_disk(splits: Splits[tf.data.Dataset]) -> Splits[OnDisk]:
    """All examples, bit for bit those of `in_memory`, in temporary files; raises what `read` does."""

    def stored(name: str, part: tf.data.Dataset) -> OnDisk:
        try:
            return OnDisk(_checked(name, batch).numpy() for batch in part.batch(EXAMPLES_AT_ONCE))
        except OSError as error:
            raise DataError(
                f"the {name} set ({4 * _numbers(part) / 1e9:,.1f} GB) cannot be written to the temporary folder "
                f"({error.strerror}): make room there, set TMPDIR to another folder, or choose a larger cache_gb"
            ) from error

    return _each(stored, splits)


def training_batches(
    examples: tf.Tensor | OnDisk, batch_size: int, seed: int, first_step: int, epochs: int
) -> tf.data.Dataset:
    """Shuffled batches of so many epochs, one after the other, from the step `first_step` on.

    The order within an epoch depends on `(seed, epoch)` only, so a run resumed at `first_step` sees the batches that
    an undisturbed run would have seen. An epoch has `len(dataset) // batch_size` batches, all of the same static
    shape; the examples left over are others in every epoch.

    Args:
        examples: `[examples, ...]`.
        batch_size: from 1 to the number of examples.
        seed: any 64-bit integer.
        first_step: 0 for a new run, the number of steps done for a resumed one.
        epochs: the number of epochs of the whole run.

    Returns:
        A data set of batches `[batch_size, ...]`.

    Raises:
        DataError: not one whole batch can be made.
    """
    count = int(examples.shape[0])
    if not 1 <= batch_size <= count:
        raise DataError(f"batch_size={batch_size} must be from 1 to {count}, the number of training examples")
    steps = count // batch_size

    @as_it_is
    def epoch_indices(epoch: tf.Tensor) -> tf.data.Dataset:
        order = _permutation(count, seed, epoch)[: steps * batch_size]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order, [steps, batch_size]))

    batches = tf.data.Dataset.range(first_step // steps, epochs).flat_map(epoch_indices).skip(first_step % steps)
    batches = batches.map(as_it_is(lambda indices: _gather(examples, indices)))
    batches = batches.apply(tf.data.experimental.assert_cardinality(max(epochs * steps - first_step, 0)))
    return _steady(batches.prefetch(2))


def evaluation_batches(examples: tf.Tensor | OnDisk, batch_size: int) -> tf.data.Dataset:
    """All examples in their order; the last batch may be smaller.

    Args:
        examples: `[examples, ...]`.
        batch_size: 1 or more.

    Returns:
        A data set of batches `[batch, ...]`, `batch <= batch_size`.
    """
    starts = tf.data.Dataset.range(0, examples.shape[0], batch_size)
    return _steady(starts.map(as_it_is(lambda start: examples[start : start + batch_size])).prefetch(2))


def _permutation(count: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The indices 0 to count - 1, `[count]`, in an order that (seed, epoch) alone decides."""
    pair = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_shuffle(tf.range(count), pair, alg="philox")


def _gather(examples: tf.Tensor | OnDisk, indices: tf.Tensor) -> tf.Tensor:
    return examples.gather(indices) if isinstance(examples, OnDisk) else tf.gather(examples, indices)


def _numbers(dataset: tf.data.Dataset) -> int:
    return int(dataset.cardinality()) * math.prod(dataset.element_spec.shape)


def _each(keep: Callable[[str, tf.data.Dataset], Any], splits: Splits[tf.data.Dataset]) -> Splits[Any]:
    kept = []
    for name, part in zip(Splits._fields, splits, strict=True):
        if part.cardinality() < 1:
            raise DataError(f"the {name} set has no examples")
        try:
            kept.append(keep(name, part))
        except tf.errors.OpError as error:
            raise DataError(
                f"the {name} set cannot be read ({error.message.splitlines()[0]}): if its prepared copy is damaged, "
                "in data.data_dir or else ~/tensorflow_datasets, delete it and start again"
            ) from error
    return Splits(*kept)


def _checked(name: str, examples: tf.Tensor) -> tf.Tensor:
    if examples.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(examples)):
        raise DataError(f"the {name} set has values that are NaN or infinite: repair or leave out such examples")
    return examples


def _steady(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's autotuner, which stalls short epochs, and in a fixed order."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.with_options(options)
