"""Strategies as pictures: the function `u -> code`, and the gradient that it lets through, over three cells."""

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:  # takes half a second to import, which a run without pictures need not wait for
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Variant = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""`(u, seed) -> code`; deterministic ones ignore the seed, int32 `[2]`."""

PLACES = np.linspace(-0.5, 2.5, 601, dtype=np.float32)
STEEPEST = 8.0
"""Gradients beyond are cut off at the panel's edge, where a line's peak is written."""

BAND = (0.05, 0.95)
BAND_LABEL = "5 % to 95 % of the draws"
COLUMNS = 4
GREY = "0.6"


class Curve(NamedTuple):
    """One line over `u`, and for a random strategy the quantiles `BAND` around the mean; each `[places]`."""

    u: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def random(self) -> bool:
        """Whether there is a band."""
        return self.low is not self.mean


def draw(variants: Mapping[str, Variant], title: str, draws: int = 200) -> "Figure":
    """Function and gradient side by side, all variants in one panel each.

    Args:
        variants: by the legend's label, in an order that colours may show.
        title: of the figure.
        draws: of the random ones, for each of 601 places.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, 640 // (6 * max(map(len, variants)) + 34))  # as many as fit, in points
    rows = math.ceil((len(variants) + 1) / columns)  # of the legend, with the band
    height = 3.36 + 0.22 * rows
    figure = Figure(figsize=(9, height), dpi=100)
    # Constrained layout would find these margins, too, and take longer than all the rest.
    figure.subplots_adjust(left=0.05, right=0.99, top=1 - 0.55 / height, bottom=1 - 2.8 / height, wspace=0.14)
    figure.suptitle(title, x=0.05, y=1 - 0.07 / height, ha="left", fontsize=13, fontweight="bold")
    function, gradient = figure.subplots(1, 2)
    _fill(function, gradient, variants, draws, fontsize=11)
    for axis, label in ((function, "code (thin grey: tf.round)"), (gradient, "dcode/du")):
        axis.set_title(label, fontsize=11)
        axis.set_xlabel("u", fontsize=11)
    entries = list(zip(*function.get_legend_handles_labels(), strict=True))
    by_row = [entry for column in range(columns) for entry in entries[column::columns]]
    figure.legend(
        *zip(*by_row, strict=True),
        loc="lower center",
        ncols=columns,
        frameon=False,
        fontsize=10,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
    )
    return figure


def overview(strategies: Mapping[str, Mapping[str, Variant]], draws: int = 200) -> "Figure":
    """All strategies in a grid, each with its function above its gradient.

    Args:
        strategies: by name; of each, what `draw` takes, of which the first four are drawn.
        draws: of the random ones.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(len(strategies) / COLUMNS)
    figure = Figure(figsize=(9, 0.4 + 2.9 * rows), dpi=100, layout="constrained")
    figure.suptitle(
        "above: code, below: dcode/du, over u; thin grey: tf.round; bands: 5 % to 95 % of the draws", fontsize=10
    )
    axes = figure.subplots(2 * rows, COLUMNS, squeeze=False)
    pairs = [(axes[row], axes[row + 1]) for row in range(0, 2 * rows, 2)]
    cells = [cell for above, below in pairs for cell in zip(above, below, strict=True)]
    for (function, gradient), (name, variants) in zip(cells, strategies.items(), strict=False):
        _fill(function, gradient, dict(islice(variants.items(), 4)), draws, fontsize=9)
        function.set_title(name, fontsize=9.5, fontweight="bold", pad=9)
        function.tick_params(labelbottom=False)
    for unused in cells[len(strategies) :]:
        for axis in unused:
            axis.set_visible(False)
    return figure


def measure(variant: Variant, draws: int) -> tuple[Curve, Curve]:
    """A variant's code and its gradient over `PLACES`; finer where the code climbs too fast for them.

    It is random if two seeds give different results, and is then drawn at once for all places.
    """
    code, slope = _evaluate(variant, PLACES, 0)
    if not all(map(np.array_equal, (code, slope), _evaluate(variant, PLACES, 1))):
        code, slope = _evaluate(variant, np.broadcast_to(PLACES, (draws, PLACES.size)), 0)
        return _mean_and_band(code), _mean_and_band(slope)
    steep = np.flatnonzero(np.abs(np.diff(code)) > 0.1)
    finer = [np.linspace(PLACES[i], PLACES[i + 1], 101, dtype=np.float32) for i in steep]
    places = np.unique(np.concatenate([PLACES, *finer]))
    code, slope = _evaluate(variant, places, 0)
    return Curve(places, code, code, code), Curve(places, slope, slope, slope)


def _mean_and_band(samples: np.ndarray) -> Curve:
    low, high = np.quantile(samples, BAND, axis=0, method="nearest")
    return Curve(PLACES, samples.mean(axis=0), low, high)


def _evaluate(variant: Variant, places: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    u = tf.constant(places)
    with tf.GradientTape() as tape:
        tape.watch(u)
        code = variant(u, tf.constant([seed, 0]))
    slope = tape.gradient(code, u, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return code.numpy(), slope.numpy()


def _fill(function: "Axes", gradient: "Axes", variants: Mapping[str, Variant], draws: int, fontsize: float) -> None:
    curves = [measure(variant, draws) for variant in variants.values()]
    for axis in (function, gradient):
        axis.grid(color="0.92", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=fontsize - 1, length=3, color=GREY)
        axis.set(xlim=(-0.5, 2.5), xticks=[0, 1, 2])
    function.set(ylim=(-0.8, 2.8), yticks=[0, 1, 2])
    gradient.axhline(0, color=GREY, linewidth=0.8)
    styles = _styles(len(curves))
    for (code, slope), label, style in zip(curves, variants, styles, strict=True):
        _line(function, code, label, style)
        _line(gradient, slope, label, style)
    function.stairs([0, 1, 2], [-0.5, 0.5, 1.5, 2.5], baseline=None, color=GREY, linewidth=0.8, zorder=1.6)
    if any(code.random for code, _ in curves):
        function.fill_between([], [], color=GREY, alpha=0.4, linewidth=0, label=BAND_LABEL)
    _limit(gradient, [slope for _, slope in curves], styles, fontsize)


def _styles(count: int) -> list[dict[str, Any]]:
    """From light to dark; more than five repeat their colours, dashed."""
    from matplotlib import colormaps

    if count == 1:
        return [{"color": "#31688e", "linewidth": 1.8}]
    colours = count if count <= 5 else math.ceil(count / 2)
    shades, width = colormaps["viridis"](np.linspace(0.75, 0.05, colours)), 1.8 if count <= 5 else 1.3
    lines = [("-", "--")[i // colours] for i in range(count)]
    return [{"color": shades[i % colours], "linestyle": lines[i], "linewidth": width} for i in range(count)]


def _line(axis: "Axes", curve: Curve, label: str, style: dict[str, Any]) -> None:
    """A line, thin where it jumps."""
    if curve.random:
        axis.fill_between(curve.u, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0)
        axis.plot(curve.u, curve.mean, **style, label=label)
        return
    jumps = np.flatnonzero(np.abs(np.diff(curve.mean)) > 0.2 * np.ptp(curve.mean)) + 1
    if jumps.size:
        axis.plot(curve.u, curve.mean, color=style["color"], linewidth=0.7)
    axis.plot(np.insert(curve.u, jumps, np.nan), np.insert(curve.mean, jumps, np.nan), **style, label=label)


def _limit(axis: "Axes", slopes: list[Curve], styles: list[dict[str, Any]], fontsize: float) -> None:
    """Cuts the axis off at `STEEPEST`, and writes the peaks of the lines beyond, in their colours."""
    lowest, highest = min(slope.low.min() for slope in slopes), max(slope.high.max() for slope in slopes)
    top = np.clip(highest, 1.2, STEEPEST)
    axis.set_ylim(np.clip(lowest, -STEEPEST, 0) - 0.06 * top, 1.06 * top)
    axis.locator_params(axis="y", nbins=5)
    peaks = [(slope.mean.max(), style["color"]) for slope, style in zip(slopes, styles, strict=True)]
    steep = sorted((peak for peak in peaks if peak[0] > STEEPEST), key=lambda peak: -peak[0])
    for line, (peak, colour) in enumerate(steep):
        axis.annotate(
            f"▲ {peak:,.0f}",
            (0.58, 1),  # right of the half, where most of them are
            xycoords=axis.get_xaxis_transform(),
            xytext=(0, -1.25 * fontsize * line),
            textcoords="offset points",
            va="top",
            fontsize=fontsize - 1,
            color=colour,
        )
