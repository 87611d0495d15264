"""Rounding on a grid that is shifted at random, and known to both sides."""

import tensorflow as tf

from ._cell import TimesSlope, per_cell, straight
from ._noise import uniform


def dithered(u: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Adds noise, rounds, and takes the same noise away again.

        forward     round(u + d) - d        where d, the dither, is from U(-1/2, 1/2)
        backward    dy

    The error is uniform over (-1/2, 1/2) and independent of `u`, which rounding's is not: to the decoder it is
    the same as `uniform_noise`, but round(u + d) is an integer that could be stored. The code itself is not
    one, and after training it is `tf.round` that rounds, without dither.

    Args:
        u: a float tensor of any shape.
        seed: an int32 tensor of shape [2], another one each step; the same one gives the same dither.

    Ziv 1985, On universal quantization.
    """
    u = tf.convert_to_tensor(u)
    d = uniform(u, seed)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, TimesSlope]:
        return tf.round(t + d) - d, straight

    return per_cell(curve, u)
