"""Which integers exist: the map from the encoder's `z` to `u`, measured in codes."""

from collections.abc import Sequence

import keras
import tensorflow as tf


def binary(*, units: int, normalize: bool) -> "Latent":
    """The latent of bits: `u = sigmoid(z)`, codes {0, 1}. Arguments as in `Latent`."""
    return Latent(units=units, levels=2, normalize=normalize)


def integer(*, units: int, levels: int | None, scale: float, normalize: bool) -> "Latent":
    """The latent of integers, see `Latent`. With `rounding=straight_through` this is FSQ (Mentzer 2023, sec. 3.1).

    FSQ: arXiv 2309.15505; it bounds with tanh where we use the sigmoid.
    """
    return Latent(units=units, levels=levels, scale=scale, normalize=normalize)


class Latent(keras.layers.Layer):
    """Maps `z` to `u`, in code units: neighbouring codes are 1 apart, and code = round(u).

    u = (levels - 1) sigmoid(z)     codes {0 .. levels-1}
    u = scale z                     all integers (`levels=None`)

    In front of the map stands batch normalisation: it keeps every unit in the sensitive part of the sigmoid,
    so that all codes get used.

    Args:
        units: codes per position, 1 or more; the size of the last axis of `z`, `u` and `code`.
        levels: how many codes exist, 2 or more; None for all integers.
        scale: with `levels=None`, the standard deviation of a normalised unit, in codes; above 0.
        normalize: whether batch normalisation stands in front of the map.
    """

    def __init__(self, *, units: int, levels: int | None, scale: float = 1.0, normalize: bool = True) -> None:
        super().__init__(name="latent", dtype="float32")
        self.units = units
        self.levels = levels
        self.scale = scale
        self.normalization = keras.layers.BatchNormalization(momentum=0.9, dtype="float32") if normalize else None

    def build(self, shape: Sequence[int | None]) -> None:
        """Makes the normalisation's weights for `z` of this shape."""
        if self.normalization is not None:
            self.normalization.build(shape)

    def call(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """`z [batch, ..., units]`, unbounded, to `u` of the same shape."""
        if self.normalization is not None:
            z = self.normalization(z, training=training)
        if self.levels is None:
            return self.scale * z
        return (self.levels - 1) * tf.sigmoid(z)

    def centre(self, code: tf.Tensor) -> tf.Tensor:
        """Codes as the decoder takes them: exactly [-1, 1], or about that for all integers (+-2 deviations)."""
        if self.levels is None:
            return code / (2 * self.scale)
        return 2 * code / (self.levels - 1) - 1
