"""What is measured and shown of images."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from telemetry.media import Comparison
from telemetry.metrics import psnr_db

COLUMNS = 8


class Images:
    """Examples `x [batch, height, width, 1]` in [0, 1]."""

    def __init__(self) -> None:
        self.examples = 16
        self.files = "reconstructions.png"
        self.measures: dict[str, Comparison] = {"psnr": psnr_db}

    def rates(self, bits: tf.Tensor) -> dict[str, tf.Tensor]:
        """None: bits per example say it all."""
        return {}

    def show(self, x: np.ndarray, x_hat: np.ndarray) -> None:
        """Writes a picture to the default TensorBoard writer."""
        tf.summary.image("original_above_reconstruction", grid(x, x_hat)[None])

    def save(self, path: Path, x: np.ndarray, x_hat: np.ndarray) -> None:
        """Stores `reconstructions.png`."""
        keras.utils.save_img(path / "reconstructions.png", 255 * grid(x, x_hat), scale=False)


def grid(x: np.ndarray, x_hat: np.ndarray, scale: int = 2) -> np.ndarray:
    """Rows of originals, each with its reconstructions below.

    Args:
        x: originals `[n, height, width, 1]` in [0, 1]; what does not fill a row of 8 is left out.
        x_hat: reconstructions, alike.
        scale: pixels per pixel.

    Returns:
        One picture `[height, width, 1]` in [0, 1].
    """
    columns = min(COLUMNS, len(x))
    rows = len(x) // columns
    pairs = np.stack([x, np.clip(x_hat, 0, 1)])[:, : rows * columns]
    pairs = np.pad(pairs, [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)], constant_values=0.5)
    _, _, height, width, channels = pairs.shape
    tiles = pairs.reshape(2, rows, columns, height, width, channels).transpose(1, 0, 3, 2, 4, 5)
    picture = tiles.reshape(rows * 2 * height, columns * width, channels)
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)
