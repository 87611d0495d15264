"""What the pictures share: colours that everyone can tell apart, panels in a grid, labels beside the lines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 9.0
"""Of a figure in inches: a README shows it with 100 pixels an inch, and the file has 150."""

# Okabe and Ito's, without the yellow, which is faint on white; with four kinds of lines, 28 that differ.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))

FONT = 7.5
LINE = 1.25 * FONT / 72
"""Inches from one label to the next."""

LEADER = 0.3
"""Inches between a panel and its labels."""


class Label(NamedTuple):
    """A name to be written to the right of a panel, joined with its point."""

    text: str
    x: float
    y: float
    colour: str
    bold: bool = False


def styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and kind of line of each name; neighbours differ in colour."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i // len(COLOURS) % len(LINES)]}
        for i, name in enumerate(names)
    }


def grid(titles: Sequence[str], labels: Sequence[str], most: int) -> tuple[Figure, list[Axes]]:
    """One panel a title, two side by side, each with room for labels to its right.

    Args:
        titles: of the panels.
        labels: the longest that may stand beside a panel is among them.
        most: of them that a panel may have to show.
    """
    columns = min(2, len(titles))
    rows = -(-len(titles) // columns)
    left, below, above = 0.7, 0.45, 0.3
    right = LEADER + 0.56 * FONT / 72 * max(map(len, labels))
    width, height = WIDTH / columns - left - right, max(3.0, 1.2 * LINE * most)
    total = rows * (height + below + above)
    figure = Figure(figsize=(WIDTH, total), dpi=150)
    axes = []
    for i, title in enumerate(titles):
        x, y = i % columns * WIDTH / columns + left, total - (i // columns + 1) * (height + below + above) + below
        axis = figure.add_axes((x / WIDTH, y / total, width / WIDTH, height / total))
        axis.set_title(title, fontsize=FONT + 2, loc="left")
        axis.grid(color="0.92", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=FONT)
        axes.append(axis)
    return figure, axes


def limit(axis: Axes, low: float, high: float, log: bool) -> None:
    """Sets the range of y, with a margin, and ticks that a range of less than a decade has, too."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    if log:
        axis.set_yscale("log")
        margin = (high / low) ** 0.04 if high > low else 1.1
        axis.set_ylim(low / margin, high * margin)
    else:
        margin = 0.04 * (high - low) or max(0.1 * abs(high), 1e-6)
        axis.set_ylim(low - margin, high + margin)
    if not log or high / low < 20:
        axis.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter("{x:.4g}")


def write(axis: Axes, labels: Sequence[Label]) -> None:
    """Writes labels to the right of a panel whose limits are set, highest first, none upon another.

    Those of points beyond the panel stand at its edge, with an arrow and the number.
    """
    to_fraction = axis.transData + axis.transAxes.inverted()
    places = [float(to_fraction.transform((label.x, label.y))[1]) for label in labels]
    order = np.argsort(places, kind="stable")
    width, height = axis.get_position().size * axis.figure.get_size_inches()  # type: ignore[union-attr]
    heights = spread(np.clip(np.array(places)[order], 0, 1), LINE / height)
    low, high = axis.get_ylim()
    for i, y in zip(order, heights, strict=True):
        label = labels[i]
        beyond = "▲" if label.y > high else "▼" if label.y < low else ""
        leader = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.5, "relpos": (0, 0.5), "shrinkB": 1}
        axis.annotate(
            f"{beyond} {label.text} {label.y:.3g}" if beyond else label.text,
            (label.x, label.y),
            xytext=(1 + LEADER / width, y),
            textcoords="axes fraction",
            va="center",
            fontsize=FONT,
            fontweight="bold" if label.bold else "normal",
            color=label.colour,
            annotation_clip=False,
            arrowprops=None if beyond else leader,
        )


def spread(places: np.ndarray, distance: float) -> np.ndarray:
    """Moves ascending places in [0, 1] as little as it takes for them to be a distance apart, and within, if they fit.

    Least squares: what stays after the distances are taken off must ascend, which is isotonic regression.
    """
    from scipy.optimize import isotonic_regression

    offsets = distance * np.arange(len(places))
    room = max(1 - offsets[-1], 0) if len(places) else 0
    return np.clip(isotonic_regression(places - offsets).x, 0, room) + offsets


def inliers(values: np.ndarray) -> np.ndarray:
    """Without those that lie beyond the quartiles by more than three times their distance."""
    first, third = np.quantile(values, [0.25, 0.75])
    return values[np.abs(values - np.clip(values, first, third)) <= 3 * (third - first)]
