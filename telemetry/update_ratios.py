"""How far a step moves the weights."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from models.autoencoder import Autoencoder


class UpdateRatios:
    """The norm of the last update of an epoch over the norm of the weights that it moved, by layer.

    update_to_weight/<name>     about 0.001 is healthy at the full learning rate; 0 where the weights themselves are 0

    Measured in one step an epoch, since remembering all weights is a tenth of a small model's step; and around it, not
    within, since TensorFlow takes a while over a condition that is never met.

    Args:
        model: the autoencoder, built.
        steps: of an epoch.
    """

    def __init__(self, model: "Autoencoder", steps: int) -> None:
        self.steps = steps
        self.weights_by_layer = {
            layer.name: layer.trainable_variables
            for layer in [*model.encoder.layers, model.latent, *model.decoder.layers]
            if layer.trainable_variables
        }
        self.ratios = tf.Variable(tf.zeros(len(self.weights_by_layer)), trainable=False)
        # In graphs: read one by one, so many weights take longer.
        self.weights = tf.function(self._weights, autograph=False)
        self.measure = tf.function(self._measure, autograph=False)

    @contextlib.contextmanager
    def of_step(self, step: int) -> Iterator[None]:
        """Around a step, which counts from 0; measures the update of an epoch's last one."""
        last = (step + 1) % self.steps == 0
        before = self.weights() if last else []
        yield
        if last:
            self.measure(before)

    def result(self) -> dict[str, tf.Tensor]:
        """The ratios of the last step that was measured, by tag; 0 before."""
        tags = [f"update_to_weight/{name}" for name in self.weights_by_layer]
        return dict(zip(tags, tf.unstack(self.ratios), strict=True))

    def _weights(self) -> list[list[tf.Tensor]]:
        return [[weight.value.read_value() for weight in weights] for weights in self.weights_by_layer.values()]

    def _measure(self, before: list[list[tf.Tensor]]) -> None:
        ratios = []
        for old, new in zip(before, self._weights(), strict=True):
            update = tf.linalg.global_norm([n - o for n, o in zip(new, old, strict=True)])
            ratios.append(tf.math.divide_no_nan(update, tf.linalg.global_norm(old)))
        self.ratios.assign(tf.stack(ratios))
