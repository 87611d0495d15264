"""The autoencoder, and one step of its training."""

from collections.abc import Callable

import keras
import tensorflow as tf

from models.latent import Latent
from telemetry.gradient_flow import GradientFlow
from telemetry.metrics import CodeCounts, Means, psnr_db

Rounding = Callable[[tf.Tensor], tf.Tensor]


class Autoencoder(keras.Model):
    """x --encoder--> z --latent--> u --rounding--> code --decoder--> x_hat.

    Args:
        encoder: `x [batch, height, width, 1]` (or `[batch, samples, 1]`) to `z [batch, ..., units]`.
        latent: `z` to `u`.
        rounding: the strategy, `u -> code`, that stands in for `tf.round` during training.
        decoder: the centred code to `x_hat`, of the shape of `x`.
    """

    def __init__(self, encoder: keras.Model, latent: Latent, rounding: Rounding, decoder: keras.Model) -> None:
        super().__init__(name="autoencoder")
        self.encoder = encoder
        self.latent = latent
        self.rounding = rounding
        self.decoder = decoder
        self.latent.build(encoder.output_shape)
        self.built = True

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The reconstruction `x_hat`: through the strategy in training, through integer codes otherwise."""
        u = self.encode(x, training)
        return self.decode(self.rounding(u) if training else tf.round(u), training)

    def encode(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`u` of the same shape as `z`; `tf.round` of it is the code."""
        return self.latent(self.encoder(x, training=training), training=training)

    def decode(self, code: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`x_hat` of `code [batch, ..., units]`."""
        return self.decoder(self.latent.centre(code), training=training)


class Trainer(keras.Model):
    """Fits an autoencoder to mean squared error, and measures what the strategy lets through.

    A `keras.Model` of its own, so that the autoencoder's weight files hold neither optimizer nor metrics.

    Args:
        autoencoder: what to train.
        batch_size: of every training step.
    """

    def __init__(self, autoencoder: Autoencoder, batch_size: int) -> None:
        super().__init__(name="trainer")
        self.autoencoder = autoencoder
        self.batch_size = batch_size
        self.gradient_flow = GradientFlow(autoencoder, batch_size)
        self.evaluation = Means(["loss", "soft_loss", "gap", "psnr"], name="evaluation")
        self.code_counts = CodeCounts(autoencoder.latent.units, autoencoder.latent.levels)
        self.built = True

    def train_step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step on `x`; returns the epoch's means so far."""
        model = self.autoencoder
        with tf.GradientTape() as tape:
            z = model.encoder(x, training=True)
            u = model.latent(z, training=True)
            code = model.rounding(u)
            x_hat = model.decoder(model.latent.centre(code), training=True)
            loss = tf.reduce_mean(squared_error(x, x_hat))
        # A strategy may leave the encoder without a gradient: zeros, then, which Keras variables only give
        # through their `value`.
        sources = [code, u, *(weight.value for weight in model.trainable_variables)]
        dcode, du, *gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.optimizer.apply(gradients, model.trainable_variables)
        self.gradient_flow.update_state(loss, u, dcode, du, gradients)
        return self.gradient_flow.result()

    def test_step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Hard (integer codes, what a deployed model does) and soft (the strategy in place) errors of `x`."""
        model = self.autoencoder
        u = model.encode(x)
        code = tf.round(u)
        hard = squared_error(x, model.decode(code))
        soft = squared_error(x, model.decode(model.rounding(u)))
        self.evaluation.update_state({"loss": hard, "soft_loss": soft, "gap": hard - soft, "psnr": psnr_db(hard)})
        self.code_counts.update_state(code)
        return {**self.evaluation.result(), **self.code_counts.result()}


def squared_error(x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """Mean squared error of each example: `[batch, ...]` twice to `[batch]`."""
    return tf.reduce_mean(tf.math.squared_difference(x, x_hat), axis=list(range(1, len(x.shape))))
