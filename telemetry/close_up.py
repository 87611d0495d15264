"""A closer look at the strategy during an epoch: what gets through, by unit and by the place within the cell."""

from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from models.autoencoder import Autoencoder

BINS = 20


class CloseUp:
    """Gradients by unit and by the place `t` of `u` within its cell, while it is switched on.

    `last` holds the last step's `z`, `u`, `dL/dcode` and `dL/du`, `[batch, ..., units]`.

    Args:
        model: the autoencoder, built.
        batch_size: of every step.
    """

    def __init__(self, model: "Autoencoder", batch_size: int) -> None:
        self.units = model.latent.units
        shape = (batch_size, *model.encoder.output_shape[1:])
        self.on = tf.Variable(False, trainable=False)
        self.last = {name: tf.Variable(tf.zeros(shape), trainable=False) for name in ("z", "u", "dL_dcode", "dL_du")}
        self.sums = tf.Variable(tf.zeros([3, self.units, BINS]), trainable=False)

    def update_state(self, z: tf.Tensor, u: tf.Tensor, dcode: tf.Tensor, du: tf.Tensor) -> None:
        """Takes in one step, if it is `on`."""

        def look() -> None:
            for kept, tensor in zip(self.last.values(), (z, u, dcode, du), strict=True):
                kept.assign(tensor)
            self.sums.assign_add(self._by_place(u, dcode, du))

        tf.cond(self.on, look, lambda: None)

    def result(self) -> dict[str, tf.Tensor]:
        """Means since it was switched on, `[units, BINS]` each, NaN where no `u` was.

        share     of a unit's `u` in the bin, t = u - floor(u) from bin / BINS on
        dL_dcode  mean of its absolute value over these `u`
        dL_du     likewise
        """
        count, dcode, du = tf.unstack(self.sums)
        total = tf.reduce_sum(count, axis=1, keepdims=True)
        return {"share": count / total, "dL_dcode": dcode / count, "dL_du": du / count}

    def switch(self, on: bool) -> None:
        """On: starts anew. Off: it costs nothing, and keeps what it has."""
        self.on.assign(on)
        if on:
            self.sums.assign(tf.zeros_like(self.sums))

    def variables(self) -> list[tf.Variable]:
        """What a training that is interrupted must keep."""
        return [self.on, self.sums, *self.last.values()]

    def _by_place(self, u: tf.Tensor, dcode: tf.Tensor, du: tf.Tensor) -> tf.Tensor:
        t = u - tf.floor(u)
        place = tf.minimum(tf.cast(t * BINS, tf.int32), BINS - 1)
        cells = tf.reshape(place + BINS * tf.range(self.units), [-1])
        values = tf.stack([tf.ones_like(u), tf.abs(dcode), tf.abs(du)], axis=-1)
        sums = tf.math.unsorted_segment_sum(tf.reshape(values, [-1, 3]), cells, self.units * BINS)
        return tf.transpose(tf.reshape(sums, [self.units, BINS, 3]), [2, 0, 1])
