"""Images, file by file: to rows of codes, and back."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from coding.container import Item
from coding.stored import Codec, Stored
from conf.checks import ConfigError
from data import folder_images

Read = Callable[[int], np.ndarray]
"""Gives the next rows of codes, int32 `[n, units]`."""


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of so many, the last one of what is left."""
    return (items[start : start + size] for start in range(0, len(items), size))


class Images:
    """What a run of images does with files.

    Args:
        stored: the run.
    """

    QUALITY = "PSNR"

    def __init__(self, stored: Stored) -> None:
        height, width, _ = stored.statistics.shape
        self.size = height, width
        self.sample_rate_hz = 0
        self.positions = stored.statistics.positions
        self.codec = Codec(stored.model(), stored.config.batch_size)

    def items(self, files: Sequence[Path], names: Sequence[str]) -> list[Item]:
        """Of files; they are read later."""
        return [Item(name) for name in names]

    def rows(self, items: Sequence[Item]) -> int:
        """How many rows of codes they have."""
        return len(items) * math.prod(self.positions)

    def encode(self, files: Sequence[Path], items: Sequence[Item]) -> Iterator[np.ndarray]:
        """Rows of codes, int32 `[n, units]`.

        Raises:
            ConfigError: a file cannot be read.
        """
        for batch in batches(files, self.codec.batch_size):
            code = self.codec.encode(np.stack([self._read(file) for file in batch]))
            yield code.reshape(-1, code.shape[-1])

    def decode(self, items: Sequence[Item], read: Read) -> Iterator[tuple[Item, np.ndarray]]:
        """Each item and its image, uint8 `[height, width]`."""
        for batch in batches(items, self.codec.batch_size):
            rows = read(self.rows(batch))
            x_hat = self.codec.decode(rows.reshape(len(batch), *self.positions, -1))
            yield from zip(batch, np.rint(255 * np.clip(x_hat[..., 0], 0, 1)).astype(np.uint8), strict=True)

    def write(self, path: Path, image: np.ndarray) -> None:
        """Stores what `decode` gave, as PNG."""
        Image.fromarray(image).save(path, "PNG")

    def quality_db(self, file: Path, item: Item, image: np.ndarray) -> float:
        """PSNR of what `decode` gave; infinite where nothing is lost."""
        x = self._read(file)[..., 0]
        with np.errstate(divide="ignore"):
            return float(-10 * np.log10(np.mean((x - image / 255) ** 2, dtype=np.float64)))

    def extent(self, items: Sequence[Item]) -> tuple[float, str]:
        """How much there is, to give rates: the number of pixels."""
        return len(items) * self.size[0] * self.size[1], "pixel"

    def _read(self, file: Path) -> np.ndarray:
        try:
            return folder_images.decode(tf.constant(file.read_bytes()), self.size).numpy()
        except (tf.errors.OpError, OSError) as error:
            raise ConfigError(f"input: {file} cannot be read as PNG or JPEG: repair or remove it") from error
