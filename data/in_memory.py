"""Examples in memory, once: to put a data set into one tensor, TensorFlow by itself needs twice as much and more."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

EXAMPLES_AT_ONCE = 256
"""Of those on the way to where they are kept."""

ALIGNMENT = 64
"""Bytes; TensorFlow ends the process over a tensor that begins elsewhere."""


def whole(examples: tf.data.Dataset, look: Callable[[tf.Tensor], object] = lambda batch: None) -> tf.Tensor:
    """All examples of a data set of known cardinality and shape, `[examples, ...]`.

    Args:
        examples: single ones.
        look: called with each batch of them; may raise what it likes.
    """
    spec = examples.element_spec
    x = empty([int(examples.cardinality()), *spec.shape], spec.dtype.as_numpy_dtype)
    for start, batch in zip(range(0, len(x), EXAMPLES_AT_ONCE), examples.batch(EXAMPLES_AT_ONCE), strict=True):
        look(batch)
        x[start : start + len(batch)] = batch
    return tensor(x)


def empty(shape: Sequence[int], dtype: type[np.generic]) -> np.ndarray:
    """An array, as yet of no values, that `tensor` makes a tensor of."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def tensor(x: np.ndarray) -> tf.Tensor:
    """The same memory as a tensor: `x` of `empty`, which must not be written to any more."""
    return tf.experimental.dlpack.from_dlpack(x.__dlpack__())
