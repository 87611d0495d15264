"""What random strategies share: noise that is a pure function of a seed."""

import tensorflow as tf

from ._cell import computing_dtype


def uniform(u: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Noise from U(-1/2, 1/2), of the shape of `u` and in the dtype that it is computed in.

    The same seed and shape give the same noise, bit for bit: run eagerly, in a graph or compiled by XLA. (Drawn
    as floats it would not be: TensorFlow keeps the low bits of Philox's integers, XLA the high ones,
    https://github.com/tensorflow/tensorflow/issues/117644. So the integers are drawn, on which both agree.)
    The values are the odd multiples of 2^-25 (float64: 2^-54), evenly on both sides of 0: neither it nor the
    bounds are hit.

    Args:
        u: a float tensor of any shape.
        seed: an int32 tensor of shape [2].
    """
    dtype = computing_dtype(u)
    integer, bits = (tf.int64, 53) if dtype == tf.float64 else (tf.int32, 24)
    drawn = tf.random.stateless_uniform(tf.shape(u), seed, minval=None, maxval=None, dtype=integer, alg="philox")
    place = tf.bitwise.right_shift(drawn, integer.size * 8 - bits)  # from -2^(bits - 1) on, below 2^(bits - 1)
    return (tf.cast(place, dtype) + 0.5) * 2.0**-bits
