"""From a data set to batches: read once into memory, then every epoch a permutation of (seed, epoch) alone.

splits = hydra.utils.instantiate(cfg.data)
batches = training_batches(splits.train, batch_size=128, seed=0, first_epoch=0, epochs=20)
"""

from typing import NamedTuple

import tensorflow as tf


class DataError(ValueError):
    """A data set that cannot be had as asked: the message says what is wrong and what to do, in a few lines."""


class Splits(NamedTuple):
    """Three disjoint data sets of single examples `x`, in a fixed order and of known cardinality.

    Images are float32 `[height, width, 1]` in [0, 1].
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset


def training_batches(
    dataset: tf.data.Dataset, batch_size: int, seed: int, first_epoch: int, epochs: int
) -> tf.data.Dataset:
    """Shuffled batches of the epochs `first_epoch` to `epochs - 1`, one after the other.

    The order within an epoch depends on `(seed, epoch)` only, so a run resumed at `first_epoch` sees the batches that
    an undisturbed run would have seen. An epoch has `len(dataset) // batch_size` batches, all of the same static
    shape; the examples left over are others in every epoch.

    Args:
        dataset: single examples `[...]`, read once into memory as they are (float32: a gather then needs no cast).
        batch_size: from 1 to the number of examples.
        seed: any 64-bit integer.
        first_epoch: 0 for a new run, the number of finished epochs for a resumed one.
        epochs: the number of epochs of the whole run.

    Returns:
        A data set of batches `[batch_size, ...]`.

    Raises:
        DataError: no whole batch can be made, or the data set cannot be read.
    """
    examples = _in_memory(dataset)
    count = int(examples.shape[0])
    if not 1 <= batch_size <= count:
        raise DataError(
            f"batch_size={batch_size} must be from 1 to {count}, the number of training examples: "
            f"give a smaller batch_size or more data"
        )
    steps = count // batch_size

    def epoch_indices(epoch: tf.Tensor) -> tf.data.Dataset:
        order = _permutation(count, seed, epoch)[: steps * batch_size]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order, [steps, batch_size]))

    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_indices)
    batches = batches.map(lambda indices: tf.gather(examples, indices))
    batches = batches.apply(tf.data.experimental.assert_cardinality(max(epochs - first_epoch, 0) * steps))
    return _steady(batches.prefetch(2))


def evaluation_batches(dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """All examples in their order, from memory; the last batch may be smaller.

    Args:
        dataset: single examples `[...]`, read once into memory.
        batch_size: 1 or more.

    Returns:
        A data set of batches `[batch, ...]`, `batch <= batch_size`.

    Raises:
        DataError: `batch_size` is below 1, or the data set cannot be read.
    """
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size} must be 1 or more")
    examples = _in_memory(dataset)
    starts = tf.data.Dataset.range(0, examples.shape[0], batch_size)
    return _steady(starts.map(lambda start: examples[start : start + batch_size]).prefetch(2))


def _permutation(count: int, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The indices 0 to count - 1, `[count]`, in an order that (seed, epoch) alone decides."""
    pair = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_shuffle(tf.range(count), pair, alg="philox")


def _in_memory(dataset: tf.data.Dataset) -> tf.Tensor:
    """All examples, `[examples, ...]`, on the CPU even where there is a GPU: tf.data gathers there."""
    count = int(dataset.cardinality())
    if count < 1:
        raise DataError("the data set has no examples")
    try:
        with tf.device("/cpu:0"):
            return dataset.batch(count).get_single_element()
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0]
        raise DataError(
            f"the data set cannot be read: {reason}\nIf its prepared copy is damaged, delete it and start again."
        ) from error


def _steady(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Without tf.data's autotuner, which stalls short epochs, and in a fixed order."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.with_options(options)
