"""Rounding, with the gradient of soft rounding."""

import tensorflow as tf

from ._cell import TimesSlope, per_cell
from .soft_round import bend


def soft_gradient(u: tf.Tensor, *, alpha: float = 3.0) -> tf.Tensor:
    """Rounds, and passes the gradient as if it had rounded softly.

        forward     r
        backward    dy * alpha (1 - tanh(alpha (t - 1/2))^2) / (2 tanh(alpha / 2))

    The decoder trains on what it meets afterwards, as with `straight_through`; the encoder learns more from
    values between two codes, less from settled ones.

    Args:
        u: a float tensor of any shape.
        alpha: >= 0, of `soft_round`. Near 0 `straight_through`, large `hard` but for the halves.

    Raises:
        ValueError: for `alpha` out of range.

    Close to DSQ, Gong et al. 2019, arXiv 1908.05033.
    """
    climb = bend(alpha, u)

    def curve(d: tf.Tensor) -> tuple[tf.Tensor, TimesSlope]:
        _, slope = climb(tf.abs(d))  # the slope is the same on both sides of an integer
        return tf.zeros_like(d), slope

    return per_cell(curve, u, origin=tf.round)
