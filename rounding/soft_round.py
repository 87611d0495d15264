"""Soft rounding: a hyperbolic tangent per cell, between the identity and `tf.round`; and the way back."""

from typing import Any

import tensorflow as tf

from ._cell import Curve, TimesSlope, non_negative, per_cell


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
    return per_cell(bend(alpha, u), u)


def soft_round_inverse(y: tf.Tensor, *, alpha: float) -> tf.Tensor:
    """Gives back the `u` that `soft_round` took to `y`: steep at the integers, flat between them.

        forward     m + 1/2 + x / alpha,                    x = atanh(2 tanh(alpha / 2) (t - 1/2))
        backward    dy * 2 tanh(alpha / 2) cosh(x)^2 / alpha    where m = floor(y), t = y - m

    The slope at integers is sinh(alpha) / alpha, at halves 2 tanh(alpha / 2) / alpha. Where that is beyond
    the dtype's range (in float32 for alpha from about 88 on), the gradient is its largest number.

    Args:
        y: a float tensor of any shape.
        alpha: >= 0. Near 0 the identity, large m + 1/2 between the integers, which stay where they are.

    Raises:
        ValueError: for `alpha` out of range.
    """
    unbend = unbending(alpha, y)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        away, slope = unbend(tf.minimum(t, 1 - t))
        return 0.5 + tf.sign(t - 0.5) * away, slope

    return per_cell(curve, y)


def soft_round_conditional_mean(y: tf.Tensor, *, alpha: float) -> tf.Tensor:
    """The mean of the `u` that may be behind y = soft_round(u) + noise, from U(-1/2, 1/2).

        forward     soft_round_inverse(y - 1/2) + 1/2
        backward    dy * slope of soft_round_inverse at y - 1/2

    What can have led to `y` lies between the inverses of y - 1/2 and y + 1/2, which are 1 apart; where `u` is
    spread evenly over them, this is the middle.

    Args:
        y: a float tensor of any shape.
        alpha: >= 0, that of the `soft_round`. Near 0 the identity, large `tf.round`.

    Raises:
        ValueError: for `alpha` out of range.

    Agustsson & Theis 2020, arXiv 2006.09952.
    """
    return per_cell(bend_mean(alpha, y), y, origin=tf.round)


def bend(alpha: Any, u: tf.Tensor) -> Curve:
    """The curve of `soft_round` over a cell [0, 1]."""
    # At 0 the formula is 0/0; at 1e-8 it is the identity already, in float64 too.
    alpha = tf.maximum(non_negative("alpha", alpha, u), 1e-8)
    scale = 0.5 / tf.tanh(alpha / 2)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, TimesSlope]:
        y = tf.tanh(alpha * (t - 0.5))
        return 0.5 + scale * y, lambda dy: alpha * scale * tf.raw_ops.TanhGrad(y=y, dy=dy)

    return curve


def bend_mean(alpha: Any, y: tf.Tensor) -> Curve:
    """The curve of `soft_round_conditional_mean` over a cell [-1/2, 1/2]."""
    unbend = unbending(alpha, y)

    def curve(d: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        away, slope = unbend(0.5 - tf.abs(d))
        return tf.sign(d) * away, slope

    return curve


def unbending(alpha: Any, y: tf.Tensor) -> Curve:
    """The inverse's distance from the half, and its slope, by the distance of `y` from the nearest integer.

    atanh(x) is infinite at the integers as soon as tanh(alpha / 2) is 1 to rounding, and inexact long before.
    In q = exp(-alpha) nothing cancels: atanh(x) = log1p((1 - q) (1 - 2 distance) / near) / 2, and 1 - x^2 =
    4 near far / (1 + q)^2.
    """
    alpha = tf.clip_by_value(non_negative("alpha", alpha, y), 1e-8, 1e30)  # beyond, alpha's inverse is 0
    q, p = tf.exp(-alpha), -tf.math.expm1(-alpha)  # p = 1 - q

    def curve(distance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        near = q + p * distance  # 0 at integers once q is: then what is divided by it is infinite, and cut
        far = 1 + q - near
        away = tf.minimum(tf.math.log1p(p * (1 - 2 * distance) / near) / alpha, 1) / 2
        slope = p / alpha * (1 + q) / (2 * near * far)
        return away, tf.minimum(slope, slope.dtype.max)

    return curve
