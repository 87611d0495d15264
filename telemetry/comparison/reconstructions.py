"""What the codes of each strategy are decoded to: the same few test examples side by side."""

import logging
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from matplotlib.figure import Figure

from telemetry.comparison.drawing import FONT, WIDTH
from telemetry.comparison.runs import Panel

log = logging.getLogger(__name__)

CAPTION = (
    "The same test examples, decoded from integer codes; strategies best first, the run with the lowest seed of each. "
    "Of audio, spectrograms from -60 dB to full scale."
)

SAMPLES = 8
FRAME, HOP = 256, 64
QUIETEST_DB = -60.0

Row = tuple[str, np.ndarray]
"""A name, and its samples beside each other, `[height, samples * width]` in [0, 1]."""


def reconstructions(panels: Sequence[Panel], by: str) -> Figure | None:
    """For each panel members of `by` (best first) by samples, originals on top; None where no run has stored any.

    Of each member the run with the lowest seed is shown; of audio, spectrograms.
    """
    shown = [(panel.title, rows) for panel in panels if (rows := rows_of(panel, by))]
    if not shown:
        return None
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    left = 0.1 + 0.62 * FONT / 72 * max(len(name) for _, rows in shown for name, _ in rows)
    width = WIDTH / across - left - 0.05
    ratio = max(picture.shape[0] / picture.shape[1] for _, rows in shown for _, picture in rows)
    each = max(width * ratio, 0.15)
    cell = each * max(len(rows) for _, rows in shown) + 0.35
    figure = Figure(figsize=(WIDTH, cell * down), dpi=150)
    for i, (title, rows) in enumerate(shown):
        x, height = i % across * WIDTH / across + left, each * len(rows)
        y = cell * (down - i // across) - 0.3 - height
        axis = figure.add_axes((x / WIDTH, y / (cell * down), width / WIDTH, height / (cell * down)))
        for j, (_, picture) in enumerate(rows):
            axis.imshow(picture, cmap="gray", aspect="auto", vmin=0, vmax=1, extent=(0, 1, j + 1, j))
        axis.set(xlim=(0, 1), ylim=(len(rows), 0), xticks=[])
        axis.set_title(title, fontsize=FONT + 2, loc="left")
        axis.set_yticks(np.arange(len(rows)) + 0.5, [name for name, _ in rows], fontsize=FONT)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    return figure


def rows_of(panel: Panel, by: str) -> list[Row]:
    """The rows of a panel: `original` above those that are reconstructions of it, which may be all or those of a set.

    What is missing or can't be read is left out, the latter with a warning.
    """
    rows: list[Row] = []
    original = None
    first = panel.finished.sort_values("seed", kind="stable").groupby(by)["path"].first()
    for name in panel.names:
        examples = _stored(first[name] / "reconstructions.npz") if name in first else None
        if examples is None:
            continue
        x, x_hat = examples
        if original is None or not np.array_equal(x, original):
            rows.append(("original", strip(x)))
            original = x
        rows.append((name, strip(x_hat)))
    return rows


def strip(examples: np.ndarray) -> np.ndarray:
    """The first few examples as one picture in [0, 1], side by side with a grey line around each.

    Args:
        examples: images `[n, height, width, 1]` in [0, 1], or audio `[n, samples, 1]` in [-1, 1].
    """
    few = examples[:SAMPLES, ..., 0]
    tiles = [np.clip(image, 0, 1) for image in few] if few.ndim == 3 else [spectrogram(clip) for clip in few]
    return np.concatenate([np.pad(tile, 1, constant_values=0.5) for tile in tiles], axis=1)


def spectrogram(clip: np.ndarray) -> np.ndarray:
    """Frequencies (low ones below) over time: 0 is -60 dB or less, 1 a sine of full scale.

    Args:
        clip: `[samples]` in [-1, 1].
    """
    window = np.hanning(FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(clip, (0, FRAME)), FRAME)[::HOP]
    magnitude = np.abs(np.fft.rfft(frames * window)) / (window.sum() / 2)
    level = 20 * np.log10(np.maximum(magnitude, 1e-12))
    return np.clip(1 - level.T[::-1] / QUIETEST_DB, 0, 1)


def _stored(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            return arrays["x"], arrays["x_hat"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        log.warning("no pictures of %s: %s (%s)", path, type(error).__name__, error)
        return None
