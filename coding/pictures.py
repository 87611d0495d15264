"""Pictures of the latent: examples as tiles in rows, and how units are used."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from telemetry.comparison.drawing import FONT, LINE, WIDTH
from telemetry.comparison.reconstructions import spectrogram

UNITS = 128
"""Units, at most, that have a row of pictures: the strongest."""

LEVELS, EXAMPLES, NEAREST = 16, 6, 7

LARGEST_TILE = 0.9
"""Inches."""

CHANGE, LEVEL = colormaps["RdBu_r"], colormaps["viridis"]


class Images:
    """Examples `[height, width, 1]` in [0, 1]."""

    pairs, steps = 4, 9
    """Pairs of examples with a path between them, and steps of a path."""

    shown = 4
    """Examples beside each unit."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.ratio = shape[0] / shape[1]

    def tile(self, x: np.ndarray) -> np.ndarray:
        """The image."""
        return np.clip(x[..., 0], 0, 1)

    def places(self, x_hat: np.ndarray, positions: Sequence[int]) -> np.ndarray:
        """Where a unit takes its step: everywhere; bool `[n, ...]`."""
        return np.ones((len(x_hat), *positions), bool)

    def excerpt(self, change: np.ndarray, up: np.ndarray, places: np.ndarray) -> np.ndarray:
        """What is drawn of a unit's step: the mean of the absolute change, and the first examples' change."""
        return np.concatenate([np.abs(change).mean(axis=0, keepdims=True), change[: self.shown]])[..., 0]

    def effects(self, x_hat: np.ndarray, excerpts: np.ndarray, order: np.ndarray) -> tuple[str, Figure]:
        """What one step of each unit changes.

        Args:
            x_hat: examples before the step.
            excerpts: of the units' steps, as `excerpt` gives them.
            order: of the units, strongest first.
        """
        largest = float(np.quantile(np.abs(excerpts[:, 1:]), 0.999)) or 1
        means = 1 - excerpts[:, 0] / (excerpts[:, 0].max() or 1)
        rows = [
            Row(f"{unit}", [means[unit], *(CHANGE(0.5 + 0.5 * change / largest) for change in excerpts[unit, 1:])])
            for unit in order[:UNITS]
        ]
        top = Row("x_hat", [self.tile(x) for x in (x_hat.mean(axis=0), *x_hat[: self.shown])])
        across = 1 if len(rows) <= 8 else 2 if len(rows) <= 24 else 4
        title = "What one step of each unit changes, strongest units first"
        figure = sheet(title, rows, self.ratio, ["mean", "", "examples"], [top], across)
        caption = (
            "A row for each unit: the change as it alone takes one step (a bit is flipped, an integer goes up by one, "
            f"or down where it is the highest): mean of its absolute value over {len(x_hat)} validation examples, "
            "then a few of them, red where they become brighter, blue where darker."
        )
        return caption, figure

    def sounds(self, paths: Sequence[np.ndarray]) -> dict[str, bytes]:
        """None."""
        return {}


class Sounds:
    """Examples `[samples, 1]` in [-1, 1].

    Args:
        sample_rate_hz: samples a second.
    """

    pairs, steps = 3, 7
    ratio = 0.7
    around = 6
    """Frames before the one in which a unit takes its step, and after it, that are shown."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz

    def tile(self, x: np.ndarray) -> np.ndarray:
        """The spectrogram, low frequencies below."""
        return LEVEL(spectrogram(x[:, 0]))

    def places(self, x_hat: np.ndarray, positions: Sequence[int]) -> np.ndarray:
        """Where a unit takes its step: in each sound's loudest frame; bool `[n, frames]`."""
        frames = np.array_split(x_hat[..., 0] ** 2, positions[0], axis=1)
        loudest = np.stack([part.sum(axis=1) for part in frames], axis=1).argmax(axis=1)
        return np.arange(positions[0]) == loudest[:, None]

    def excerpt(self, change: np.ndarray, up: np.ndarray, places: np.ndarray) -> np.ndarray:
        """What is drawn of a unit's step: the change around it, as it would be on the way up; `[n, samples]`."""
        step = -(-change.shape[1] // places.shape[1])
        samples = (2 * self.around + 1) * step
        padded = np.pad(change[..., 0], [(0, 0), (self.around * step, samples)])
        starts = places.argmax(axis=1) * step
        return up[:, None] * np.stack([row[start : start + samples] for row, start in zip(padded, starts, strict=True)])

    def effects(self, x_hat: np.ndarray, excerpts: np.ndarray, order: np.ndarray) -> tuple[str, Figure]:
        """What one step of each unit adds, over time and by frequency; arguments as in `Images.effects`."""
        excerpts = excerpts[order[:UNITS]]
        count, samples = len(excerpts), excerpts.shape[-1]
        waves = excerpts.mean(axis=1)
        power = np.mean(np.abs(np.fft.rfft(excerpts)) ** 2, axis=1)
        level = 10 * np.log10(np.maximum(power / (power.max() or 1), 1e-12))
        figure = Figure(figsize=(WIDTH, 1 + 0.22 * max(count, 6)), dpi=150, layout="constrained")
        over_time, by_frequency = figure.subplots(1, 2)
        t = (np.arange(samples) - samples / 2) / self.sample_rate_hz * 1000
        for row, wave in enumerate(waves):
            over_time.plot(t, row - 0.75 * wave / (np.abs(waves).max() or 1), color="#0072B2", linewidth=0.7)
        over_time.set_title("what one step adds, mean", fontsize=FONT + 2, loc="left")
        over_time.set(xlim=(t[0], t[-1]), ylim=(count - 0.2, -0.8))
        over_time.set_xlabel("ms from the middle of the frame", fontsize=FONT)
        over_time.set_ylabel("unit, strongest first", fontsize=FONT)
        extent = (0, self.sample_rate_hz / 2000, count - 0.5, -0.5)
        image = by_frequency.imshow(level, aspect="auto", extent=extent, vmin=-40, vmax=0)
        by_frequency.set_title("by frequency, mean power", fontsize=FONT + 2, loc="left")
        by_frequency.set_xlabel("kHz", fontsize=FONT)
        bar = figure.colorbar(image, ax=by_frequency, pad=0.02, fraction=0.05)
        bar.ax.tick_params(labelsize=FONT)
        bar.set_label("dB below the largest", fontsize=FONT)
        for axis in (over_time, by_frequency):
            axis.tick_params(labelsize=FONT)
            axis.set_yticks(range(count), [f"{unit}" for unit in order[:UNITS]], fontsize=min(FONT, 7))
            axis.spines[:].set_visible(False)
        caption = (
            "Each unit alone takes one step in the loudest frame of a clip (a bit is flipped, an integer goes up by "
            "one, or down where it is the highest): what that adds to the sound on the way up, mean over "
            f"{len(x_hat)} validation clips, and its spectrum."
        )
        return caption, figure

    def sounds(self, paths: Sequence[np.ndarray]) -> dict[str, bytes]:
        """Each step of each path."""
        return {
            f"path_{number}_step_{step}": self._wav(x)
            for number, path in enumerate(paths, start=1)
            for step, x in enumerate(path, start=1)
        }

    def _wav(self, x: np.ndarray) -> bytes:
        import soundfile

        file = io.BytesIO()
        soundfile.write(file, np.clip(x, -1, 1), self.sample_rate_hz, "PCM_16", format="WAV")
        return file.getvalue()


def kind_of(data: Mapping[str, Any], shape: Sequence[int]) -> Images | Sounds:
    """The kind of a data set's examples."""
    return Images(shape) if len(shape) == 3 else Sounds(data["sample_rate_hz"])


class Row(NamedTuple):
    """A row of tiles, with a label before it and captions below; those may be missing."""

    label: str
    tiles: Sequence[np.ndarray]
    captions: Sequence[str] = ()


def sheet(
    title: str, rows: Sequence[Row], ratio: float, heads: Sequence[str] = (), top: Sequence[Row] = (), across: int = 1
) -> Figure:
    """Rows of tiles in columns of rows.

    Args:
        title: of all.
        rows: from top to bottom, then from left to right.
        ratio: height of a tile over its width.
        heads: above the tiles.
        top: rows that stand above each column.
        across: columns, at most.
    """
    down = -(-len(rows) // across)
    columns = [[*top, *rows[start : start + down]] for start in range(0, len(rows), down)]
    left = 0.12 + 0.6 * FONT / 72 * max(len(row.label) for column in columns for row in column)
    most = max(len(row.tiles) for column in columns for row in column)
    width = min(LARGEST_TILE, (WIDTH / across - left - 0.1) / most)
    tile, caption = width * ratio, 1.1 * LINE * any(row.captions for column in columns for row in column)
    above = 0.35 + LINE * bool(heads)
    total = above + 0.08 + len(columns[0]) * (tile + caption)
    figure = Figure(figsize=(WIDTH, total), dpi=150)
    figure.text(0.08 / WIDTH, 1 - 0.08 / total, title, fontsize=FONT + 2, va="top")
    for number, column in enumerate(columns):
        height = len(column) * (tile + caption)
        x, y = number * WIDTH / across + left, total - above - height
        axis = figure.add_axes((x / WIDTH, y / total, most * width / WIDTH, height / total))
        for i, row in enumerate(column):
            upper = i * (tile + caption)
            for j, picture in enumerate(row.tiles):
                extent = (j * width + 0.015, (j + 1) * width - 0.015, upper + tile - 0.015, upper + 0.015)
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto", extent=extent)
            for j, text in enumerate(row.captions):
                axis.text((j + 0.5) * width, upper + tile, text, ha="center", va="top", fontsize=FONT - 1)
        for j, text in enumerate(heads):
            axis.text((j + 0.5) * width, -0.03, text, ha="center", va="bottom", fontsize=FONT)
        places = (np.arange(len(column))) * (tile + caption) + tile / 2
        axis.set(xlim=(0, most * width), ylim=(height, 0), xticks=[], facecolor="0.9" if not caption else "white")
        axis.set_yticks(places, [row.label for row in column], fontsize=FONT)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    return figure


def sweeps(kind: Images | Sounds, codes: np.ndarray, rows: Sequence[tuple[str, np.ndarray]]) -> tuple[str, Figure]:
    """One example with one unit set to each code.

    Args:
        kind: of the example.
        codes: that a unit is set to.
        rows: for each unit that is shown a label, and `x_hat` `[codes, ...]`.
    """
    shown = [Row(label, [kind.tile(x) for x in x_hat]) for label, x_hat in rows]
    figure = sheet("One unit set to each code, strongest units first", shown, kind.ratio, [f"{code}" for code in codes])
    caption = (
        "One test example, with one unit (the row) set to one code after the other and all other units as they are; in "
        "brackets the code that this unit has by itself."
    )
    return caption, figure


def interpolation(
    kind: Images | Sounds, paths: Sequence[np.ndarray], fades: Sequence[np.ndarray]
) -> tuple[str, Figure]:
    """Paths through integer codes, each above a cross-fade of its ends."""
    rows = []
    for path, faded in zip(paths, fades, strict=True):
        rows += [Row("codes", [kind.tile(x) for x in path]), Row("cross-fade", [kind.tile(x) for x in faded])]
    heads = [f"{t:.0%}" for t in np.linspace(0, 1, len(paths[0]))]
    figure = sheet("From one test example to another", rows, kind.ratio, heads)
    caption = (
        "Upper rows: integer codes all the way. Each unit goes straight from its code in one example to that in the "
        "other, and takes its steps at other places than the other units, strong and weak ones in turns. Rows below: "
        "the two ends faded into each other without codes."
    )
    return caption, figure


def neighbours(
    kind: Images | Sounds, x: np.ndarray, x_hat: np.ndarray, near: Sequence[tuple[Any, Any]]
) -> tuple[str, Figure]:
    """Test examples and the training examples with the nearest codes.

    Args:
        kind: of the examples.
        x: test examples.
        x_hat: decoded.
        near: for each the nearest examples, and the distances of their codes.
    """
    rows = [
        Row("", [kind.tile(one) for one in (original, decoded, *examples)], ["", "", *map(str, far)])
        for original, decoded, (examples, far) in zip(x, x_hat, near, strict=True)
    ]
    heads = ["test", "x_hat", *["nearest"], *["" for _ in near[0][1][1:]]]
    figure = sheet("Training examples with the nearest codes", rows, kind.ratio, heads)
    caption = (
        "Test examples, what they are decoded to, and the training examples whose codes are nearest, with their "
        "distance: the number of steps of single units that lie between (of bits: how many differ). Of sounds, frame "
        "by frame, so that the same word said later is far away."
    )
    return caption, figure


def usage(units: pd.DataFrame, counts: pd.DataFrame, levels: int | None) -> tuple[str, Figure]:
    """Bits, effect and codes of each unit.

    Args:
        units: as `walk.units_of` gives them.
        counts: how often each takes each code.
        levels: how many codes exist; None for all integers.
    """
    figure = Figure(figsize=(WIDTH, 6), dpi=150, layout="constrained")
    bits, effect, codes = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1, 1.4])
    bits.bar(units["unit"], units["bits"], color="#0072B2", width=0.8)
    possible = units["bits_possible"].iloc[0]
    if np.isfinite(possible):
        bits.axhline(possible, color="0.4", linewidth=0.8, linestyle=(0, (4, 1.5)))
        bits.set_ylim(0, 1.08 * possible)
    bits.set_title("bits used" + ("; dashed: possible" if np.isfinite(possible) else ""), fontsize=FONT + 2, loc="left")
    effect.bar(units["unit"], units["effect"], color="#D55E00", width=0.8)
    effect.set_title("change of x_hat by one step, root mean square", fontsize=FONT + 2, loc="left")
    low, high = (0, levels - 1) if levels else (int(counts.columns[0]), int(counts.columns[-1]))
    shares = counts.reindex(columns=range(low, high + 1), fill_value=0).to_numpy()
    shares = shares / shares.sum(axis=1, keepdims=True)
    extent = (-0.5, len(shares) - 0.5, low - 0.5, high + 0.5)
    image = codes.imshow(shares.T, origin="lower", aspect="auto", extent=extent, vmin=0, interpolation="nearest")
    codes.set_title("share of each code", fontsize=FONT + 2, loc="left")
    codes.set_xlabel("unit", fontsize=FONT + 1)
    bar = figure.colorbar(image, ax=codes, pad=0.01, fraction=0.03)
    bar.ax.tick_params(labelsize=FONT)
    for axis in (bits, effect, codes):
        axis.tick_params(labelsize=FONT)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.spines[["top", "right"]].set_visible(False)
    codes.yaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    caption = (
        "By unit, on the validation set: entropy of its codes, what one step of it changes, how often it takes each."
    )
    return caption, figure


def players(sounds: Mapping[str, bytes]) -> str:
    """HTML to listen to WAV files; empty where there are none."""
    if not sounds:
        return ""
    paths: dict[str, list[str]] = {}
    for name, content in sounds.items():
        data = base64.b64encode(content).decode()
        player = f'<audio controls style="width: 9em" src="data:audio/wav;base64,{data}"></audio>'
        paths.setdefault(name.partition("_step")[0], []).append(player)
    lines = [f"<p>{escape(name.replace('_', ' '))}<br>{' '.join(each)}</p>" for name, each in paths.items()]
    return "\n".join(["<h2>Listen to the interpolation</h2>", *lines])
