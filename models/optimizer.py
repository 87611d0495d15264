"""AdamW in fewer passes over the memory."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class AdamW(keras.optimizers.AdamW):
    """Keras's, with the same numbers, whose update of a weight is two operations instead of a dozen.

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2, arXiv 1711.05101.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Moves a weight, and what is kept of its gradients; called by Keras."""
        rate = tf.cast(learning_rate, variable.dtype)
        if self.weight_decay is not None and self._use_weight_decay(variable):
            variable.assign(variable * (1 - self.weight_decay * rate))
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Left to `update_step`, which has the weight in the processor's cache."""


def _handle(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
