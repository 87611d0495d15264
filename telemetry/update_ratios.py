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

    Measured in one step an epoch, since remembering all weights is a tenth of a small model's step.

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
        self.kept = {
            name: [tf.Variable(tf.zeros_like(weight.value), trainable=False) for weight in weights]
            for name, weights in self.weights_by_layer.items()
        }
        self.ratios = tf.Variable(tf.zeros(len(self.kept)), trainable=False)

    @contextlib.contextmanager
    def of_step(self, step: tf.Tensor) -> Iterator[None]:
        """Around the update of a step, which counts from 0; measures that of an epoch's last one."""
        last = tf.equal((step + 1) % self.steps, 0)
        tf.cond(last, self._keep, lambda: None)
        yield
        tf.cond(last, self._measure, lambda: None)

    def result(self) -> dict[str, tf.Tensor]:
        """The ratios of the last step that was measured, by tag; 0 before."""
        tags = [f"update_to_weight/{name}" for name in self.kept]
        return dict(zip(tags, tf.unstack(self.ratios), strict=True))

    def _keep(self) -> None:
        for name, weights in self.weights_by_layer.items():
            for kept, weight in zip(self.kept[name], weights, strict=True):
                kept.assign(weight.value)

    def _measure(self) -> None:
        ratios = []
        for name, weights in self.weights_by_layer.items():
            kept = self.kept[name]
            update = tf.linalg.global_norm([w.value - k for w, k in zip(weights, kept, strict=True)])
            ratios.append(tf.math.divide_no_nan(update, tf.linalg.global_norm(kept)))
        self.ratios.assign(tf.stack(ratios))
