"""Rounding up or down at random, with a gradient that is right to second order."""

import tensorflow as tf

from ._cell import per_cell
from ._noise import uniform


def reinmax(u: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Rounds as `stochastic` does, and weighs the gradient by how likely the outcome was.

        forward     m + b                   where b is 1 with probability t, otherwise 0
        backward    dy / (2 t)              where b is 1,
                    dy / (2 (1 - t))        where b is 0

    The weight is 1 on average. For a loss L that is quadratic in the code, so is the gradient right: its mean
    is L(m + 1) - L(m), the slope of the mean loss, where the straight-through gradient is right for a linear
    loss only. (Heun's rule against Euler's.) At integers b is certain, and the gradient dy / 2.

    Args:
        u: a float tensor of any shape.
        seed: an int32 tensor of shape [2], another one each step; the same one gives the same noise.

    Liu et al. 2023, arXiv 2304.08612, whose form in the logits of `t` is the same.
    """
    u = tf.convert_to_tensor(u)
    noise = uniform(u, seed)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        b = tf.round(t + noise)
        return b, 0.5 / tf.abs(t - (1 - b))

    return per_cell(curve, u)
