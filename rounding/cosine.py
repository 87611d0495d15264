"""Half a cosine wave per cell."""

import math

import tensorflow as tf

from ._cell import per_cell


def cosine(u: tf.Tensor) -> tf.Tensor:
    """Climbs from one integer to the next along half a cosine wave.

        forward     m + 1/2 - cos(pi t) / 2
        backward    dy * (pi / 2) sin(pi t)

    The slope is 0 at integers, pi / 2 at halves; integers and halves stay where they are. Nothing to set.
    """

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        slope = math.pi / 2 * tf.sin(math.pi * tf.minimum(t, 1 - t))  # so that sin(pi) is exactly 0
        return 0.5 + tf.sin(math.pi * (t - 0.5)) / 2, slope  # -cos(pi t) = sin(pi (t - 1/2))

    return per_cell(curve, u)
