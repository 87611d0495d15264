"""`tf.round` as it is: the control."""

from collections.abc import Callable

import tensorflow as tf


def hard(u: tf.Tensor) -> tf.Tensor:
    """Rounds, and lets no gradient through.

        forward     r
        backward    0

    Only the decoder trains; the encoder stays at its initial weights. The gradient is reported as zeros,
    where `tf.round` reports None, which optimizers stumble over.
    """

    @tf.custom_gradient
    def rounded(u: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.round(u), tf.zeros_like

    return rounded(u)
