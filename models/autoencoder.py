"""The autoencoder, and one step of its training."""

import keras
import tensorflow as tf

from models.latent import Latent
from rounding import Strategy, bind, in_force, takes_seed
from telemetry.close_up import CloseUp
from telemetry.gradient_flow import GradientFlow
from telemetry.media import Comparison, Media
from telemetry.metrics import CodeCounts, Means
from telemetry.update_ratios import UpdateRatios


class Autoencoder(keras.Model):
    """x --encoder--> z --latent--> u --rounding--> code --decoder--> x_hat.

    Args:
        encoder: `x [batch, height, width, 1]` (or `[batch, samples, 1]`) to `z [batch, ..., units]`.
        latent: `z` to `u`.
        rounding: the strategy, `u -> code`, that stands in for `tf.round` during training.
        decoder: the centred code to `x_hat`, of the shape of `x`.
        total_steps: of the whole training.

    `step`, the number of training steps behind the weights, is one of them: what an annealed strategy is like depends
    on it, so that a stored autoencoder has its soft loss, too.
    """

    def __init__(
        self, encoder: keras.Model, latent: Latent, rounding: Strategy, decoder: keras.Model, total_steps: int = 1
    ) -> None:
        super().__init__(name="autoencoder")
        self.encoder = encoder
        self.latent = latent
        self.rounding = rounding
        self.random = takes_seed(rounding)
        self.decoder = decoder
        self.total_steps = total_steps
        self.step = self.add_weight(name="step", dtype="int64", initializer="zeros", trainable=False)
        self.latent.build(encoder.output_shape)
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """The reconstruction `x_hat` through integer codes: what a deployed model does."""
        return self.decode(tf.round(self.encode(x)))

    def encode(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`u` of the same shape as `z`; `tf.round` of it is the code."""
        return self.latent(self.encoder(x, training=training), training=training)

    def soften(self, u: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The code as training has it at `step`; `seed`, int32 `[2]`, is for random strategies."""
        return bind(self.rounding, step=self.step.value, progress=self.progress(), seed=seed)(u)

    def in_force(self) -> dict[str, tf.Tensor]:
        """What moves of the strategy as training goes on, as it is at `step`: `alpha` under a schedule, for one."""
        return in_force(self.rounding, step=self.step.value, progress=self.progress())

    def progress(self) -> tf.Tensor:
        """The share of training done, in [0, 1]."""
        return tf.minimum(tf.cast(self.step, tf.float32) / self.total_steps, 1)

    def decode(self, code: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`x_hat` of `code [batch, ..., units]`."""
        return self.decoder(self.latent.centre(code), training=training)


NEAR_INTEGER = "saturation/near_integer"
"""Share of `u` within 0.05 of an integer."""


class Trainer(keras.Model):
    """Makes an autoencoder's loss small, and measures what the strategy lets through.

    A `keras.Model` of its own, so that the autoencoder's weight files hold neither optimizer nor metrics.

    Args:
        autoencoder: what to train.
        loss: of each example.
        media: what else is measured of the hard reconstruction.
        batch_size: of every training step.
        steps: of an epoch.
        seed: of the run; with the step it gives random strategies their numbers.
    """

    def __init__(
        self, autoencoder: Autoencoder, loss: Comparison, media: Media, batch_size: int, steps: int, seed: int = 0
    ) -> None:
        super().__init__(name="trainer")
        self.autoencoder = autoencoder
        self.error = loss
        self.media = media
        self.seed = seed
        self.batch_size = batch_size
        self.steps = steps
        self.gradient_flow = GradientFlow(autoencoder)
        self.close_up = CloseUp(autoencoder, batch_size)
        self.update_ratios = UpdateRatios(autoencoder, steps)
        self.evaluation = Means(["loss", "soft_loss", "gap", *media.measures, NEAR_INTEGER], name="evaluation")
        self.code_counts = CodeCounts(autoencoder.latent.units, autoencoder.latent.levels)
        self.built = True

    def start_epoch(self, closely: bool) -> None:
        """Forgets the last epoch's measurements; those of `close_up` are made when one wants to look closely."""
        self.gradient_flow.reset_state()
        self.close_up.switch(closely)

    def state(self) -> list[keras.Variable | tf.Variable]:
        """All that training changes; from these values it goes on, even within an epoch, as if it had not stopped.

        Random strategies, schedules and the order of the data have no state of their own: they follow from the
        seed and from the autoencoder's `step`.
        """
        measured = [*self.gradient_flow.variables, *self.close_up.variables(), self.update_ratios.ratios]
        return [*self.autoencoder.variables, *self.optimizer.variables, *measured]

    def train_step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step on `x`; returns the epoch's means so far."""
        model = self.autoencoder
        with tf.GradientTape() as tape:
            z = model.encoder(x, training=True)
            u = model.latent(z, training=True)
            code = model.soften(u, self._noise_seed(model.step))
            x_hat = model.decoder(model.latent.centre(code), training=True)
            loss = tf.reduce_mean(self.error(x, x_hat))
        # A strategy may leave the encoder without a gradient: zeros, then, which Keras variables only give
        # through their `value`.
        sources = [code, u, *(weight.value for weight in model.trainable_variables)]
        dcode, du, *gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        with self.update_ratios.of_step(model.step):
            self.optimizer.apply(gradients, model.trainable_variables)
        model.step.assign_add(1)
        self.gradient_flow.update_state(loss, dcode, du, gradients)
        self.close_up.update_state(z, u, dcode, du)
        moving = {f"rounding/{name}": value for name, value in model.in_force().items()}
        return {**self.gradient_flow.result(), **self.update_ratios.result(), **moving}

    def test_step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Hard (integer codes, what a deployed model does) and soft (the strategy in place) errors of `x`."""
        model = self.autoencoder
        u = model.encode(x)
        code = tf.round(u)
        x_hat = model.decode(code)
        hard = self.error(x, x_hat)
        # Of the place in the data set, not of the training step: a stored run measures the same again.
        seed = self._noise_seed(-1 - self.evaluation.count)
        soft = self.error(x, model.decode(model.soften(u, seed)))
        measured = {name: measure(x, x_hat) for name, measure in self.media.measures.items()}
        near = tf.reshape(tf.cast(tf.abs(u - code) < 0.05, u.dtype), [tf.shape(u)[0], -1])
        measured[NEAR_INTEGER] = tf.reduce_mean(near, axis=1)
        self.evaluation.update_state({"loss": hard, "soft_loss": soft, "gap": hard - soft, **measured})
        self.code_counts.update_state(code)
        counted = self.code_counts.result()
        return {**self.evaluation.result(), **counted, **self.media.rates(counted["bits"])}

    def _noise_seed(self, number: tf.Tensor) -> tf.Tensor:
        return tf.stack([self.seed, tf.cast(number, tf.int32)])
