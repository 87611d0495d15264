"""What is measured and shown of audio."""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import soundfile
import tensorflow as tf
from matplotlib.figure import Figure

from models.losses import FLOOR, magnitude
from telemetry.media import Comparison
from telemetry.metrics import log_spectral_distance_db, si_sdr_db
from telemetry.rendering import pixels


class Audio:
    """Examples `x [batch, samples, 1]` in [-1, 1].

    Args:
        sample_rate_hz: samples a second.
        clip_seconds: of each example.
    """

    def __init__(self, sample_rate_hz: int, clip_seconds: float) -> None:
        self.examples = 5
        self.files = "listen to clips/*.wav, look at reconstructions.png"
        self.measures: dict[str, Comparison] = {
            "si_sdr": si_sdr_db,
            "log_spectral_distance": log_spectral_distance_db,
        }
        self.sample_rate_hz = sample_rate_hz
        self.clip_seconds = clip_seconds

    def rates(self, bits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Bits per second."""
        return {"bits_per_second": bits / self.clip_seconds}

    def show(self, x: np.ndarray, x_hat: np.ndarray) -> None:
        """Writes players, original beside reconstruction, and spectrograms to the default TensorBoard writer."""
        for number, name, clip in _clips(x, x_hat):
            tf.summary.audio(f"clip_{number}/{name}", clip[None], self.sample_rate_hz)
        tf.summary.image("original_above_reconstruction", spectrograms(x, x_hat, self.sample_rate_hz)[None])

    def save(self, path: Path, x: np.ndarray, x_hat: np.ndarray) -> None:
        """Stores `reconstructions.png`, the spectrograms, and the clips in `clips/` as 16-bit WAV files."""
        keras.utils.save_img(path / "reconstructions.png", spectrograms(x, x_hat, self.sample_rate_hz), scale=False)
        (path / "clips").mkdir(exist_ok=True)
        for number, name, clip in _clips(x, x_hat):
            soundfile.write(path / "clips" / f"{number}_{name}.wav", clip, self.sample_rate_hz, "PCM_16")


def _clips(x: np.ndarray, x_hat: np.ndarray) -> Iterator[tuple[int, str, np.ndarray]]:
    for number, (original, reconstruction) in enumerate(zip(x, x_hat, strict=True), start=1):
        yield number, "original", original
        yield number, "reconstruction", np.clip(reconstruction, -1, 1)


def spectrograms(x: np.ndarray, x_hat: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """A column a clip: the original's spectrum over time, its reconstruction's below, from -60 dB to full scale.

    Args:
        x: originals `[n, samples, 1]` in [-1, 1].
        x_hat: reconstructions, alike.
        sample_rate_hz: samples a second.

    Returns:
        One picture, uint8 RGB `[height, width, 3]`.
    """
    figure = Figure(figsize=(1 + 2.4 * len(x), 4.2), dpi=100, layout="constrained")
    rows = figure.subplots(2, len(x), sharex=True, sharey=True, squeeze=False)
    extent = (0, x.shape[1] / sample_rate_hz, 0, sample_rate_hz / 2000)
    for axes, clips, name in zip(rows, (x, x_hat), ("original", "reconstruction"), strict=True):
        levels = 20 * np.log10(magnitude(tf.constant(clips, tf.float32), 256))
        for axis, level in zip(axes, levels, strict=True):
            low = 20 * np.log10(FLOOR)
            picture = axis.imshow(level.T, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=0)
        axes[0].set_ylabel(f"{name}\nkHz")
    for axis in rows[-1]:
        axis.set_xlabel("seconds")
    figure.colorbar(picture, ax=rows, label="dB", pad=0.01)
    return pixels(figure)
