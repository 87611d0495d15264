"""Soft rounding, noise, and the best guess at what was there before."""

import tensorflow as tf

from ._cell import per_cell
from ._noise import uniform
from .soft_round import bend, bend_mean


def noisy_soft_round(u: tf.Tensor, *, alpha: float = 3.0, seed: tf.Tensor) -> tf.Tensor:
    """Rounds softly, adds noise, and takes the mean of the `u` that the sum may have come from.

        forward     soft_round_inverse(y - 1/2) + 1/2       where y = soft_round(u) + noise, from U(-1/2, 1/2)
        backward    dy * slope of that mean at y * slope of soft_round at u

    From adding noise to rounding, by one knob: the decoder never meets a value that gives `u` away, as it does
    with `soft_round` alone, which can be undone. The code stays within 1/2 of `u`; on average over the noise,
    the gradient is that of `soft_round`.

    Args:
        u: a float tensor of any shape.
        alpha: >= 0, of both. Near 0 `uniform_noise`; large `tf.round`, with a gradient at the halves only and,
            where the noise takes `y` next to a half, a huge one.
        seed: an int32 tensor of shape [2], another one each step; the same one gives the same noise.

    Raises:
        ValueError: for `alpha` out of range.

    Agustsson & Theis 2020, arXiv 2006.09952.
    """
    u = tf.convert_to_tensor(u)
    climb, mean, noise = bend(alpha, u), bend_mean(alpha, u), uniform(u, seed)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        y, rise = climb(t)
        y += noise
        nearest = tf.round(y)
        value, slope = mean(y - nearest)
        return nearest + value, tf.minimum(rise(slope), slope.dtype.max)

    return per_cell(curve, u)
