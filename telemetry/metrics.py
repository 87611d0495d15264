"""Keras metrics of more than one value, and the formulas behind them."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from models.losses import magnitude, squared_error

# With `levels=None` codes are counted from -LARGEST_CODE to LARGEST_CODE; what lies beyond counts as the nearest.
LARGEST_CODE = 2047


# Energies of a clip, and mean squared errors, below this one are no matter: without it, silence has no ratio.
TINY = 1e-10


def psnr_db(x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1; capped at 100 dB, where the error vanishes.

    Args:
        x: originals `[batch, ...]`.
        x_hat: reconstructions, alike.

    Returns:
        `[batch]`.
    """
    return -_decibel(tf.maximum(squared_error(x, x_hat), TINY))


def si_sdr_db(x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """Scale-invariant signal-to-distortion ratio in dB; 0 dB where the clip, or its reconstruction, is silent.

        10 log10(|a x|^2 / |x_hat - a x|^2), a = <x_hat, x> / |x|^2

    Le Roux et al. 2019, "SDR - half-baked or well done?", sec. 3, arXiv 1811.02508; the mean is not subtracted.

    Args:
        x: audio `[batch, samples, 1]`.
        x_hat: its reconstruction, alike.

    Returns:
        `[batch]`.
    """
    scale = _dot(x_hat, x) / (_dot(x, x) + TINY)
    target = scale[:, None, None] * x
    noise = x_hat - target
    ratio = (_dot(target, target) + TINY) / (_dot(noise, noise) + TINY)
    return tf.where(_dot(x, x) > TINY, _decibel(ratio), 0.0)


def log_spectral_distance_db(x: tf.Tensor, x_hat: tf.Tensor, frame_length: int = 256) -> tf.Tensor:
    """Root mean square, over frequencies, of the difference of spectra in dB; mean over frames.

    Gray & Markel 1976, "Distance measures for speech processing", sec. II, doi 10.1109/TASSP.1976.1162849, on spectra
    from -60 dB (of a sine at full scale) up. Frames of silence count, so that padding makes it smaller.

    Args:
        x: audio `[batch, samples, 1]` in [-1, 1].
        x_hat: its reconstruction, alike.
        frame_length: in samples.

    Returns:
        `[batch]`.
    """
    difference = 2 * _decibel(magnitude(x, frame_length) / magnitude(x_hat, frame_length))
    return tf.reduce_mean(tf.sqrt(tf.reduce_mean(tf.square(difference), axis=-1)), axis=-1)


def _decibel(ratio: tf.Tensor) -> tf.Tensor:
    return 10 / tf.math.log(10.0) * tf.math.log(ratio)


def _dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(a * b, axis=[1, 2])


class Means(keras.metrics.Metric):
    """Running means of named values, kept in one vector: twenty tags cost one update a step.

    Args:
        tags: the names.
        name: of the metric.
    """

    def __init__(self, tags: Sequence[str], name: str) -> None:
        super().__init__(name=name)
        self.tags = list(tags)
        self.total = self.add_weight(shape=(len(tags),), initializer="zeros", name="total")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, values: Mapping[str, tf.Tensor]) -> None:
        """Takes in, for every tag, a scalar, or for every tag a vector `[batch]`."""
        rows = tf.stack([values[tag] for tag in self.tags])
        rows = tf.reshape(rows, [len(self.tags), -1])
        self.total.assign_add(tf.reduce_sum(rows, axis=1))
        self.count.assign_add(tf.cast(tf.shape(rows)[1], self.count.dtype))

    def result(self) -> dict[str, tf.Tensor]:
        """The means so far, by tag."""
        return dict(zip(self.tags, tf.unstack(self.total / self.count), strict=True))


class CodeCounts(keras.metrics.Metric):
    """How often each unit takes each code, and what follows.

    bits          per example: sum over units and positions of the entropy of the unit's codes, positions pooled;
                  what an ideal coder spends when it codes each unit by itself and knows these frequencies. Too
                  few examples make it too small: a unit's is never above log2(examples x positions)
    code_usage    mean over units of distinct codes seen / codes that exist; with `levels=None`, over the span
                  of the codes seen by any unit
    saturation/stuck_units    share of units that only ever took one code

    Args:
        units: size of the last axis of `code`.
        levels: how many codes exist; None for all integers.
    """

    def __init__(self, units: int, levels: int | None) -> None:
        super().__init__(name="code_counts")
        self.levels = levels
        self.first = 0 if levels else -LARGEST_CODE
        bins = levels or 2 * LARGEST_CODE + 1
        self.counts = self.add_weight(shape=(units, bins), initializer="zeros", name="counts")
        self.positions = self.add_weight(shape=(), initializer="zeros", name="positions")

    def update_state(self, code: tf.Tensor) -> None:
        """Counts `code [batch, ..., units]`, of integer values."""
        units, bins = self.counts.shape
        rows = tf.clip_by_value(tf.cast(tf.reshape(code, [-1, units]), tf.int32) - self.first, 0, bins - 1)
        cells = rows + bins * tf.range(units)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(cells, tf.float32), cells, units * bins)
        self.counts.assign_add(tf.reshape(counts, [units, bins]))
        self.positions.assign(tf.cast(tf.shape(rows)[0] / tf.shape(code)[0], tf.float32))

    def result(self) -> dict[str, tf.Tensor]:
        """`bits` per example, `code_usage` and `saturation/stuck_units` in [0, 1]."""
        share = self.counts / tf.reduce_sum(self.counts, axis=1, keepdims=True)
        entropy_bits = -tf.reduce_sum(tf.math.xlogy(share, share), axis=1) / tf.math.log(2.0)
        seen = tf.cast(self.counts > 0, tf.float32)
        codes = tf.reduce_sum(seen, axis=1)
        return {
            "bits": tf.reduce_sum(entropy_bits) * self.positions,
            "code_usage": tf.reduce_mean(codes) / self._codes_that_exist(seen),
            "saturation/stuck_units": tf.reduce_mean(tf.cast(codes <= 1, tf.float32)),
        }

    def _codes_that_exist(self, seen: tf.Tensor) -> tf.Tensor:
        if self.levels:
            return tf.constant(float(self.levels))
        anywhere = tf.reduce_max(seen, axis=0)
        below, above = tf.argmax(anywhere), tf.argmax(tf.reverse(anywhere, [0]))
        return tf.cast(tf.size(anywhere, tf.int64) - below - above, tf.float32)
