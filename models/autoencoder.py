"""The autoencoder, and one step of its training."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from models.latent import Latent
from models.replicas import Replicas
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
        super().__init__(name="autoencoder", dtype="float32")
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

    # `precision` is that of the layers of encoder and decoder, where the time goes. What lies between and behind them
    # is float32: half precision has not all codes beyond 2,048 (bfloat16: 256) and moves `u` across the edge of its
    # cell; squared errors vanish in it, and sums over a batch or an epoch lose what is small.

    def project(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The encoder's `z`, float32."""
        return tf.cast(self.encoder(x, training=training), tf.float32)

    def encode(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`u` of the same shape as `z`; `tf.round` of it is the code."""
        return self.latent(self.project(x, training=training), training=training)

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
        """`x_hat`, float32, of `code [batch, ..., units]`."""
        return tf.cast(self.decoder(self.latent.centre(code), training=training), tf.float32)


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
        replicas: of the autoencoder; one by default.

    Each replica has a copy of the weights and of what the optimizer keeps; the measurements are there once, of the
    whole batch.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        loss: Comparison,
        media: Media,
        batch_size: int,
        steps: int,
        seed: int = 0,
        replicas: Replicas | None = None,
    ) -> None:
        super().__init__(name="trainer")
        self.autoencoder = autoencoder
        self.error = loss
        self.media = media
        self.seed = seed
        self.batch_size = batch_size
        self.steps = steps
        self.replicas = replicas or Replicas()
        self.gradient_flow = GradientFlow(autoencoder)
        self.close_up = CloseUp(autoencoder, batch_size)
        self.update_ratios = UpdateRatios(autoencoder, steps)
        self.evaluation = Means(["loss", "soft_loss", "gap", *media.measures, NEAR_INTEGER], name="evaluation")
        self.code_counts = CodeCounts(autoencoder.latent.units, autoencoder.latent.levels)
        self.graph_test_step = tf.function(self.test_step, autograph=False, reduce_retracing=True)
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

    def measure(self, batches: Iterable[tf.Tensor]) -> dict[str, float]:
        """Of all examples in `batches`, by name: hard and soft errors, bits, and what else `test_step` tells.

        What Keras's `evaluate` would return, which takes half as long again.
        """
        self.evaluation.reset_state()
        self.code_counts.reset_state()
        for x in batches:
            measured = self.graph_test_step(x)
        return {name: float(value) for name, value in measured.items()}

    def train_step(self, x: tf.Tensor) -> tf.Tensor:
        """One step on `x`; returns its loss, and `measured` tells more.

        It must return something: a graph without a result is optimised otherwise, and gives other last digits.
        """
        model = self.autoencoder
        scale = self.optimizer.scale_loss(1.0)
        loss, z, u, dcode, du, gradients = self.replicas.run(self._backward, x)
        self.optimizer.apply(gradients, model.trainable_variables)
        model.step.assign_add(1)
        if tf.is_tensor(scale):
            self._measure_scaled(scale, loss, z, u, dcode, du, gradients)
        else:
            self._measure(loss, z, u, dcode, du, gradients)
        return loss

    def measured(self) -> dict[str, tf.Tensor]:
        """Of training by tag: the epoch's means so far, what its last step did to the weights, what moves."""
        moving = {f"rounding/{name}": value for name, value in self.autoencoder.in_force().items()}
        return {**self.gradient_flow.result(), **self.update_ratios.result(), **moving}

    def _backward(self, x: tf.Tensor) -> tuple[Any, ...]:
        """A replica's part in a step: there with its share of `x`, and back; the results are those of all of `x`."""
        model, replicas = self.autoencoder, self.replicas
        part = replicas.share(x)
        with tf.GradientTape() as tape:
            z = replicas.whole(model.project(part, training=True), like=x)
            u = model.latent(z, training=True)
            code = model.soften(u, self._noise_seed(model.step))
            x_hat = model.decode(replicas.share(code), training=True)
            loss = replicas.mean(self.error(part, x_hat))
            scaled = self.optimizer.scale_loss(loss)
        # A strategy may leave the encoder without a gradient: zeros, then, which Keras variables only give
        # through their `value`.
        sources = [code, u, *(weight.value for weight in model.trainable_variables)]
        gradients = tape.gradient(scaled, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        loss, (dcode, du, *gradients) = replicas.total((loss, gradients))
        return loss, z, u, dcode, du, gradients

    def _measure(
        self, loss: tf.Tensor, z: tf.Tensor, u: tf.Tensor, dcode: tf.Tensor, du: tf.Tensor, gradients: list[tf.Tensor]
    ) -> None:
        self.gradient_flow.update_state(loss, dcode, du, gradients)
        self.close_up.update_state(z, u, dcode, du)

    def _measure_scaled(self, scale: tf.Tensor, loss: tf.Tensor, z: tf.Tensor, u: tf.Tensor, *scaled: Any) -> None:
        """The same of gradients of a loss that was scaled; where they overflow, there was no step to be measured."""
        dcode, du, gradients = tf.nest.map_structure(lambda gradient: gradient / scale, scaled)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        tf.cond(finite, lambda: self._measure(loss, z, u, dcode, du, gradients), lambda: None)

    def test_step(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """Hard (integer codes, what a deployed model does) and soft (the strategy in place) errors of `x`."""
        # Of the place in the data set, not of the training step: a stored run measures the same again.
        seed = self._noise_seed(-1 - self.evaluation.count)
        u, errors = self.replicas.run(self._errors, x, seed)
        code = tf.round(u)
        near = tf.reshape(tf.cast(tf.abs(u - code) < 0.05, u.dtype), [tf.shape(u)[0], -1])
        gap = errors["loss"] - errors["soft_loss"]
        self.evaluation.update_state({**errors, "gap": gap, NEAR_INTEGER: tf.reduce_mean(near, axis=1)})
        self.code_counts.update_state(code)
        counted = self.code_counts.result()
        return {**self.evaluation.result(), **counted, **self.media.rates(counted["bits"])}

    def _errors(self, x: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """A replica's part in a test; the results are those of all of `x`: `u`, and by name the examples' errors."""
        model, replicas = self.autoencoder, self.replicas
        part = replicas.share(x)
        u = replicas.whole(model.encode(part), like=x)
        x_hat = model.decode(replicas.share(tf.round(u)))
        errors = {"loss": self.error(part, x_hat)}
        errors["soft_loss"] = self.error(part, model.decode(replicas.share(model.soften(u, seed))))
        errors |= {name: measure(part, x_hat) for name, measure in self.media.measures.items()}
        return u, {name: replicas.whole(error, like=x) for name, error in errors.items()}

    def _noise_seed(self, number: tf.Tensor) -> tf.Tensor:
        return tf.stack([self.seed, tf.cast(number, tf.int32)])
