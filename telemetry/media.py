"""What a kind of examples brings along: its measures, how it is shown, how it is stored."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

Comparison = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Of `x` and `x_hat`, `[batch, ...]` each, to `[batch]`."""


class Media(Protocol):
    """`telemetry.images.Images` or `telemetry.audio.Audio`."""

    examples: int
    """How many are shown and stored, and how many the gradient's quality is measured on."""

    measures: dict[str, Comparison]
    """By name, what is measured of the hard reconstruction beside the loss."""

    files: str
    """What `save` leaves, for the summary on the console."""

    def rates(self, bits: tf.Tensor) -> dict[str, tf.Tensor]:
        """What follows from the bits of an example, by name."""

    def show(self, x: np.ndarray, x_hat: np.ndarray) -> None:
        """Writes originals and reconstructions to the default TensorBoard writer."""

    def save(self, path: Path, x: np.ndarray, x_hat: np.ndarray) -> None:
        """Stores originals and reconstructions in a folder, to look at or to listen to."""


def media_of(data: Mapping[str, Any], shape: Sequence[int]) -> Media:
    """The kind of a data set.

    Args:
        data: its configuration.
        shape: of its examples, `[height, width, 1]` or `[samples, 1]`.
    """
    if len(shape) == 3:
        from telemetry.images import Images

        return Images()
    from telemetry.audio import Audio  # an image's run needs none of what this imports

    return Audio(data["sample_rate_hz"], data["clip_seconds"])
