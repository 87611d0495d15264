"""Where the gradient gets through: norms along the way back, from the gradients of the real training step."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from rounding import Strategy, bind
from telemetry.metrics import Means

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        layers = [*model.encoder.layers, model.latent, *model.decoder.layers]
        self.layer_of = [layer.name for layer in layers for _ in layer.trainable_variables]
        self.encoder_layers = {layer.name for layer in [*model.encoder.layers, model.latent]}
        self.means = Means(
            [
                "loss",
                *(f"gradient_norm/{part}" for part in ("encoder", "decoder", "code", "u")),
                *(f"gradient_norm/layer/{name}" for name in dict.fromkeys(self.layer_of)),
                "gradient_flow/transmission",
                "gradient_flow/zero_fraction",
            ],
            name="gradient_flow_means",
        )

    def update_state(self, loss: tf.Tensor, dcode: tf.Tensor, du: tf.Tensor, gradients: list[tf.Tensor]) -> None:
        """Takes in one step: `dcode` and `du` of one shape, `gradients` as the model's trainable variables."""
        squares: dict[str, tf.Tensor] = {}
        for name, gradient in zip(self.layer_of, gradients, strict=True):
            squares[name] = squares.get(name, 0.0) + 2 * tf.nn.l2_loss(gradient)
        code_norm, u_norm = tf.norm(dcode), tf.norm(du)
        self.means.update_state(
            {
                "loss": loss,
                "gradient_norm/encoder": _norm(v for k, v in squares.items() if k in self.encoder_layers),
                "gradient_norm/decoder": _norm(v for k, v in squares.items() if k not in self.encoder_layers),
                "gradient_norm/code": code_norm,
                "gradient_norm/u": u_norm,
                **{f"gradient_norm/layer/{name}": tf.sqrt(square) for name, square in squares.items()},
                "gradient_flow/transmission": tf.math.divide_no_nan(u_norm, code_norm),
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
    """Whether a strategy, when training begins or when it ends, has a slope anywhere on a fine grid over one cell."""
    u = tf.linspace(0.0, 1.0, 2**16 + 1)
    for progress in (0.0, 1.0):
        with tf.GradientTape() as tape:
            tape.watch(u)
            code = bind(strategy, step=0, progress=progress, seed=tf.zeros(2, tf.int32))(u)
        slope = tape.gradient(code, u)
        if slope is not None and bool(tf.reduce_any(slope != 0)):
            return True
    return False


def _norm(squares: "Iterable[tf.Tensor]") -> tf.Tensor:
    return tf.sqrt(tf.add_n(list(squares)))
