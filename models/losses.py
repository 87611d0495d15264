"""What training makes small: the error of each example, `(x, x_hat) [batch, ...]` to `[batch]`."""

from collections.abc import Sequence

import tensorflow as tf

# Magnitudes below this one (full scale is 1) count as this one: -60 dB, silence to the ear and to the logarithm.
FLOOR = 1e-3


def squared_error(x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """Mean squared error of each example: `[batch, ...]` twice to `[batch]`."""
    return tf.reduce_mean(tf.math.squared_difference(x, x_hat), axis=list(range(1, len(x.shape))))


def spectral(x: tf.Tensor, x_hat: tf.Tensor, *, quiet: float, weight: float, frame_lengths: Sequence[int]) -> tf.Tensor:
    """Squared error of the waveform relative to the clip's power, plus the distance of log magnitude spectra.

        |x - x_hat|^2 / (|x|^2 + quiet) + weight * mean |log S(x) - log S(x_hat)|

    Squares are means over samples, the distance is the mean over frame lengths, frames and frequencies. The first term
    without its denominator is plain squared error, which leaves quiet clips to noise.

    The log-magnitude term of Yamamoto et al. 2020, sec. 3.2, arXiv 1910.11480, and of the multi-scale spectral loss
    of Engel et al. 2020, arXiv 2001.04643. Natural logarithm, magnitudes from `FLOOR` up.

    Args:
        x: audio `[batch, samples, 1]` in [-1, 1].
        x_hat: its reconstruction, alike.
        quiet: mean square, above 0, that clips are quiet below: their error counts less, and silence is no matter.
        weight: of the spectra, 0 or more.
        frame_lengths: of the spectra, in samples, 2 or more; frames are a quarter of that apart.

    Returns:
        `[batch]`.

    Raises:
        ValueError: `x` is no audio.
    """
    if len(x.shape) != 3:
        raise ValueError(f"needs audio [samples, 1], but the data gives {list(x.shape[1:])}: choose loss=squared_error")
    distances = [
        tf.reduce_mean(tf.abs(_log_magnitude(x, length) - _log_magnitude(x_hat, length)), axis=[1, 2])
        for length in frame_lengths
    ]
    waveform = squared_error(x, x_hat) / (tf.reduce_mean(tf.square(x), axis=[1, 2]) + quiet)
    return waveform + weight * tf.add_n(distances) / len(distances)


def magnitude(x: tf.Tensor, frame_length: int) -> tf.Tensor:
    """Short-time spectra, Hann window, three quarters overlap: a sine of amplitude 1 has magnitude 1 at its peak.

    Args:
        x: audio `[batch, samples, 1]`.
        frame_length: in samples, 2 or more; audio is padded with zeros to whole frames.

    Returns:
        `[batch, frames, frame_length // 2 + 1]`, `FLOOR` or more.
    """
    step = max(1, frame_length // 4)
    spectrum = tf.signal.stft(x[..., 0], frame_length, step, fft_length=frame_length, pad_end=True) * 4 / frame_length
    # The root of squares, not tf.abs, whose gradient at 0 is NaN.
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    return tf.sqrt(tf.maximum(power, FLOOR**2))


def _log_magnitude(x: tf.Tensor, frame_length: int) -> tf.Tensor:
    return tf.math.log(magnitude(x, frame_length))
