"""From a data set to batches: read once into memory, then every epoch a permutation of (seed, epoch) alone.

splits = in_memory(hydra.utils.instantiate(cfg.data))
batches = training_batches(splits.train, batch_size=128, seed=0, first_step=0, epochs=20)
"""

import math
from typing import Generic, NamedTuple, TypeVar

import tensorflow as tf

from data.memory import check_fits


class DataError(ValueError):
    """A data set that cannot be had as asked: the message says what is wrong and what to do, in a few lines."""


as_it_is = tf.autograph.experimental.do_not_convert
"""For functions of a data set without Python's `if` and loops on tensors: AutoGraph takes 20 ms to find none in one."""

T = TypeVar("T", tf.data.Dataset, tf.Tensor)


class Splits(NamedTuple, Generic[T]):
    """Three disjoint sets of examples `x`, in a fixed order.

    An image is float32 `[height, width, 1]` in [0, 1], a clip of audio float32 `[samples, 1]` in [-1, 1]. Loaders give
    data sets of single examples, of known cardinality; `in_memory` makes tensors `[examples, ...]`.
    """

    train: T
    validation: T
    test: T


def in_memory(splits: Splits[tf.data.Dataset]) -> Splits[tf.Tensor]:
    """Reads all examples, once, as they are (float32: a gather then needs no cast).

    Raises:
        DataError: a part is empty, cannot be read, or has values that are no numbers.
        ValueError: it is larger than the memory.
    """
    return Splits(*(_read(name, part) for name, part in zip(Splits._fields, splits, strict=True)))


def training_batches(examples: tf.Tensor, batch_size: int, seed: int, first_step: int, epochs: int) -> tf.data.Dataset:
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
    batches = batches.map(as_it_is(lambda indices: tf.gather(examples, indices)))
    batches = batches.apply(tf.data.experimental.assert_cardinality(max(epochs * steps - first_step, 0)))
    return _steady(batches.prefetch(2))


def evaluation_batches(examples: tf.Tensor, batch_size: int) -> tf.data.Dataset:
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


def _read(name: str, dataset: tf.data.Dataset) -> tf.Tensor:
    count = int(dataset.cardinality())
    if count < 1:
        raise DataError(f"the {name} set has no examples")
    check_fits(count * math.prod(dataset.element_spec.shape), f"the {name} set", "choose smaller examples, or fewer")
    try:
        examples = dataset.batch(count).get_single_element()
    except tf.errors.OpError as error:
        raise DataError(
            f"the {name} set cannot be read ({error.message.splitlines()[0]}): "
            "if its prepared copy is damaged, in data.data_dir or else ~/tensorflow_datasets, delete it and start again"
        ) from error
    if examples.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(examples)):
        raise DataError(f"the {name} set has values that are NaN or infinite: repair or leave out such examples")
    return examples


def _steady(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's autotuner, which stalls short epochs, and in a fixed order."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.with_options(options)
