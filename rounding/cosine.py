"""Half a cosine wave per cell."""

import math

import tensorflow as tf

from ._cell import per_cell, sin_pi


def cosine(u: tf.Tensor) -> tf.Tensor:
    """Climbs from one integer to the next along half a cosine wave.

        forward     m + 1/2 - cos(pi t) / 2
        backward    dy * (pi / 2) sin(pi t)

    The slope is 0 at integers, pi / 2 at halves; integers and halves stay where they are. Nothing to set.
    """

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return 0.5 + sin_pi(t - 0.5) / 2, math.pi / 2 * sin_pi(t)  # -cos(pi t) = sin(pi (t - 1/2))

    return per_cell(curve, u)
