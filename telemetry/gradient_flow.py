"""Where the gradient gets through: norms along the way back, from the gradients of the real training step."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from rounding import Strategy, bind
from telemetry.metrics import Means

if TYPE_CHECKING:
    from models.autoencoder import Autoencoder


class GradientFlow(keras.metrics.Metric):
    """Epoch means of the loss and of the norms of its gradients.

    loss                          with the strategy in place
    gradient_norm/decoder         L2 norm over all its weights; `encoder` counts the latent's normalisation in
    gradient_norm/code, /u        of dL/dcode and dL/du
    gradient_norm/layer/<name>    of one layer's weights
    gradient_flow/transmission    norm of dL/du over norm of dL/dcode: what the strategy passes on
    gradient_flow/zero_fraction   share of exact zeros in dL/du

    Args:
        model: the autoencoder, built.
    """

    def __init__(self, model: "Autoencoder") -> None:
        super().__init__(name="gradient_flow")
        encoder, decoder = (
            [layer for layer in layers if layer.trainable_variables]
            for layers in ([*model.encoder.layers, model.latent], model.decoder.layers)
        )
        layers = [*encoder, *decoder]
        self.layers, self.encoder_layers = len(layers), len(encoder)
        self.layer_of = [number for number, layer in enumerate(layers) for _ in layer.trainable_variables]
        self.norms = [
            f"gradient_norm/{name}"
            for name in ("encoder", "decoder", "code", "u", *(f"layer/{layer.name}" for layer in layers))
        ]
        tags = ["loss", *self.norms, "gradient_flow/transmission", "gradient_flow/zero_fraction"]
        self.means = Means(tags, name="gradient_flow_means")

    def update_state(self, loss: tf.Tensor, dcode: tf.Tensor, du: tf.Tensor, gradients: list[tf.Tensor]) -> None:
        """Takes in one step: `dcode` and `du` of one shape, `gradients` as the model's trainable variables."""
        # All at once, since an operation on one number takes as long as one on a thousand.
        of_tensors = 2 * tf.stack([tf.nn.l2_loss(gradient) for gradient in (dcode, du, *gradients)])
        of_layers = tf.math.unsorted_segment_sum(of_tensors[2:], self.layer_of, self.layers)
        parts = [tf.reduce_sum(of_layers[: self.encoder_layers]), tf.reduce_sum(of_layers[self.encoder_layers :])]
        norms = tf.unstack(tf.sqrt(tf.concat([parts, of_tensors[:2], of_layers], axis=0)), len(self.norms))
        values = dict(zip(self.norms, norms, strict=True))
        transmission = tf.math.divide_no_nan(values["gradient_norm/u"], values["gradient_norm/code"])
        self.means.update_state(
            {
                "loss": loss,
                **values,
                "gradient_flow/transmission": transmission,
                "gradient_flow/zero_fraction": tf.reduce_mean(tf.cast(du == 0, tf.float32)),
            }
        )

    def result(self) -> dict[str, tf.Tensor]:
        """The means so far, by tag."""
        return self.means.result()

    def reset_state(self) -> None:
        """Starts a new epoch."""
        self.means.reset_state()


def passes_gradient(strategy: Strategy) -> bool:
    """Whether a strategy, made for a training of one step, has a slope before or after it, anywhere on a fine grid."""
    u = tf.linspace(0.0, 1.0, 2**16 + 1)
    for step, progress in ((0, 0.0), (1, 1.0)):
        with tf.GradientTape() as tape:
            tape.watch(u)
            code = bind(strategy, step=step, progress=progress, seed=tf.zeros(2, tf.int32))(u)
        slope = tape.gradient(code, u)
        if slope is not None and bool(tf.reduce_any(slope != 0)):
            return True
    return False
