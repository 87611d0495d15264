"""Rounding up or down at random, unbiased."""

import tensorflow as tf

from ._cell import TimesSlope, per_cell, straight
from ._noise import uniform


def stochastic(u: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Rounds up with probability `t`, otherwise down, and passes the gradient as if it had not.

        forward     floor(u + noise), from U(0, 1)
        backward    dy

    The mean of the code is `u`, and that of the gradient the mean's: exact as long as the decoder is linear.
    Integers stay; between 0 and 1 this is a Bernoulli sample of probability `u`.

    Args:
        u: a float tensor of any shape.
        seed: an int32 tensor of shape [2], another one each step; the same one gives the same noise.

    Bengio et al. 2013, arXiv 1308.3432.
    """
    u = tf.convert_to_tensor(u)
    noise = uniform(u, seed)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, TimesSlope]:
        return tf.round(t + noise), straight

    return per_cell(curve, u)
