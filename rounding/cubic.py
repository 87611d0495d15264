"""Rounding with a remainder that fades near the integers."""

import tensorflow as tf

from ._cell import is_count, per_cell, require, scalar


def cubic(u: tf.Tensor, *, power: int = 3) -> tf.Tensor:
    """Keeps a power of the distance to the nearest integer, so that a gradient is left.

        forward     r + (u - r)^power
        backward    dy * power (u - r)^(power - 1)

    The slope is 0 at integers and largest next to the halves, where the curve jumps (with power 3: by 3/4, the
    slope being 3/4 as well).

    Args:
        u: a float tensor of any shape.
        power: an odd integer >= 3. Larger: closer to `tf.round`, in value and in its missing gradient.

    Raises:
        ValueError: for `power` out of range.

    Power 3: Shin & Song 2017, JPEG-resistant adversarial images.
    """
    require("power", power, "an odd integer >= 3", is_count(power) and power >= 3 and power % 2 == 1)
    half, factor = scalar((power - 1) // 2, u), scalar(power, u)

    def curve(d: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        even = tf.pow(d * d, half)  # d^(power - 1)
        return d * even, factor * even

    return per_cell(curve, u, origin=tf.round)
