"""Rounding as the Fourier series of the sawtooth `round(u) - u`, cut short."""

import math

import tensorflow as tf

from ._cell import per_cell, repeat, require, sin_pi, times


def fourier(u: tf.Tensor, *, terms: int = 5, window: str = "fejer") -> tf.Tensor:
    """Adds the first terms of the sawtooth's Fourier series to `u`.

        forward     u + sum over k = 1..n of (-1)^k w_k sin(2 pi k u) / (pi k)
        backward    dy * (1 + 2 sum over k = 1..n of (-1)^k w_k cos(2 pi k u))

    Args:
        u: a float tensor of any shape.
        terms: n, an integer from 1 to 10000. Few: a gentle wave; many: a step, n + 1 ("fejer") or 2n + 1 ("none") steep
            at the halves. Time grows with n, the graph does not.
        window: "fejer" takes w_k = 1 - k / (n + 1), the mean of the partial sums, whose slope is never
            negative. "none" takes w_k = 1, the plain series: it rings (Gibbs), is not monotone, and for odd n
            its slope at the integers is -1.

    Raises:
        ValueError: for a hyperparameter out of range.

    The plain series is quoted at https://stackoverflow.com/questions/46596636.
    """
    times("terms", terms)
    require("window", window, "'fejer' or 'none'", window in ("fejer", "none"))

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        s = t - 0.5  # seen from the half the signs go: (-1)^k sin(2 pi k t) = sin(2 pi k s)
        sine, versine = sin_pi(2 * s), 2 * tf.sin(math.pi * s) ** 2

        def add_term(k: int, sin: tf.Tensor, cos: tf.Tensor, value: tf.Tensor, slope: tf.Tensor) -> tuple:
            """Turns by one more 2 pi s, in the form that is exact for small s, and adds the k-th term."""
            sin, cos = sin - (versine * sin - sine * cos), cos - (versine * cos + sine * sin)
            k = tf.cast(k, t.dtype)
            weight = 1 - k / (terms + 1) if window == "fejer" else 1
            return sin, cos, value + weight * sin / (math.pi * k), slope + 2 * weight * cos

        *_, value, slope = repeat(terms, add_term, tf.zeros_like(t), tf.ones_like(t), t, tf.ones_like(t))
        return value, tf.maximum(slope, 0) if window == "fejer" else slope

    return per_cell(curve, u)
