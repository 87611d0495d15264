"""A sigmoid per cell, scaled so that it meets the integers: soft rounding under another name."""

import tensorflow as tf

from ._cell import positive
from .soft_round import soft_round


def scaled_sigmoid(u: tf.Tensor, *, steepness: float = 10.0) -> tf.Tensor:
    """Climbs along a sigmoid that is stretched to start and end exactly at integers.

        forward     m + A s + D         where s = 1 / (1 + exp(-B (t - 1/2))),
        backward    dy * A B s (1 - s)  A = (e^(B/2) + 1) / (e^(B/2) - 1), D = (1 - A) / 2

    Since 2 s - 1 = tanh(B (t - 1/2) / 2) and A = 1 / tanh(B / 4), this is `soft_round` with alpha = B / 2,
    and computed so: e^(B/2) overflows for large B, A s and D cancel for small ones.

    Args:
        u: a float tensor of any shape.
        steepness: B > 0. Near 0 the identity, large `tf.round`, with a gradient at the halves only.

    Raises:
        ValueError: for `steepness` out of range.
    """
    return soft_round(u, alpha=positive("steepness", steepness, u) / 2)
