"""Soft rounding: a hyperbolic tangent per cell, between the identity and `tf.round`."""

import tensorflow as tf

from ._cell import non_negative, per_cell


def soft_round(u: tf.Tensor, *, alpha: float = 3.0) -> tf.Tensor:
    """Bends the line into a smooth staircase that keeps integers and halves in place.

        forward     m + 1/2 + tanh(alpha (t - 1/2)) / (2 tanh(alpha / 2))
        backward    dy * alpha (1 - tanh(alpha (t - 1/2))^2) / (2 tanh(alpha / 2))

    The slope at integers is alpha / sinh(alpha), at halves alpha / (2 tanh(alpha / 2)).

    Args:
        u: a float tensor of any shape.
        alpha: >= 0. Near 0 the identity, large `tf.round`, with a gradient at the halves only.

    Raises:
        ValueError: for `alpha` out of range.

    Agustsson & Theis 2020, sec. 4.1, arXiv 2006.09952.
    """
    # At 0 the formula is 0/0; at 1e-8 it is the identity already, in float64 too.
    alpha = tf.maximum(non_negative("alpha", alpha, u), 1e-8)
    scale = 0.5 / tf.tanh(alpha / 2)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y = tf.tanh(alpha * (t - 0.5))
        return 0.5 + scale * y, alpha * scale * (1 - y) * (1 + y)

    return per_cell(curve, u)
