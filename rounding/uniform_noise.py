"""Noise in place of rounding."""

import tensorflow as tf

from ._noise import uniform


def uniform_noise(u: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Adds noise as wide as a cell, which errs as much as rounding does, and has a gradient.

        forward     u + noise, from U(-1/2, 1/2)
        backward    dy

    The code is not an integer, but spread over as much as the integer's cell: what the decoder learns to
    bear is an error of the size that rounding makes, independent of `u`, where rounding's is a function of it.

    Args:
        u: a float tensor of any shape.
        seed: an int32 tensor of shape [2], another one each step; the same one gives the same noise.

    Ballé et al. 2017, sec. 3, arXiv 1611.01704.
    """
    u = tf.convert_to_tensor(u)
    noise = uniform(u, seed)
    return tf.cast(tf.cast(u, noise.dtype) + noise, u.dtype)
