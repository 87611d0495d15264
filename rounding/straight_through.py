"""The straight-through estimator, with `tf.stop_gradient`."""

import tensorflow as tf


def straight_through(u: tf.Tensor) -> tf.Tensor:
    """Rounds, and passes the gradient as if it had not.

        forward     r
        backward    dy

    The decoder trains on what it meets afterwards; the price is a gradient that ignores how far `u` is from
    its code.

    Bengio et al. 2013, arXiv 1308.3432, on binary neurons; Theis et al. 2017, sec. 2.1, arXiv 1703.00395, on
    rounding.
    """
    # Exactly r in floating point: u is within a factor of 2 of r, or r is 0, so u - r has no rounding error.
    return u - tf.stop_gradient(u - tf.round(u))
