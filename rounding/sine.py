"""Lean towards the integers by subtracting a sine."""

import math

import tensorflow as tf

from ._cell import per_cell, repeat, sin_pi, times


def sine(u: tf.Tensor, *, iterations: int = 1) -> tf.Tensor:
    """Subtracts the sine that is zero at integers and halves, again and again.

        forward     y_0 = u,    y_i = y_(i-1) - sin(2 pi y_(i-1)) / (2 pi),    result y_n
        backward    dy * product over i < n of (1 - cos(2 pi y_i))

    The slope is 0 at integers and 2^n at halves; both stay where they are.

    Args:
        u: a float tensor of any shape.
        iterations: n, an integer from 1 to 10000. With 1 a gentle wave; each further one is steeper at the halves and
            flatter around the integers. Large: `tf.round`, with a gradient at the halves only.

    Raises:
        ValueError: for `iterations` out of range.

    One iteration is quoted at https://stackoverflow.com/questions/46596636.
    """
    times("iterations", iterations)

    def iterate(_: int, y: tf.Tensor, slope: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        steeper = slope * 2 * tf.sin(math.pi * y) ** 2  # 1 - cos(2 pi y), without cancellation at integers
        return y - sin_pi(2 * y) / (2 * math.pi), tf.minimum(steeper, y.dtype.max)  # 2^n at halves: finite

    def curve(d: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return repeat(iterations, iterate, d, tf.ones_like(d))

    return per_cell(curve, u, origin=tf.round)
