"""Beside the curves: gradient flow as a heat map, and loss against bits."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from telemetry.comparison.drawing import FONT, WIDTH, Label, grid, inliers, limit, styles, write
from telemetry.comparison.runs import Panel
from telemetry.comparison.statistics import half_width

FLOW_CAPTION = (
    "log10 of the gradient's norm by layer (encoder, latent, decoder from top to bottom), mean over epochs and seeds; "
    "strategies best first. Last row: transmission, the norm of dL/du over that of dL/dcode, as it is."
)
BITS_CAPTION = (
    "Means over seeds; the bar is the 95 % interval of the loss. Less of both is better; ▲ names those far above. "
    "Where more was set than is compared, a line joins what has one name; the settings stand at the best one's points."
)

LAYER = "gradient_norm/layer/"


def gradient_flow(panels: Sequence[Panel], by: str) -> Figure | None:
    """For each panel layers by strategies: log10 of the gradient's norm, mean over epochs and seeds; None without any.

    Below stands the transmission, in numbers: its values have a scale of their own.
    """
    tables = [(panel.title, layer_norms(panel, by)) for panel in panels]
    tables = [(title, table) for title, table in tables if table.size]
    if not tables:
        return None
    longest = max(len(name) for _, table in tables for name in table)
    heights = [0.2 * len(table) + 0.5 + 0.065 * longest for _, table in tables]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=150, layout="constrained")
    axes = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, table) in zip(axes, tables, strict=True):
        _heat_map(axis, table)
        axis.set_title(title, fontsize=FONT + 2, loc="left")
    return figure


def layer_norms(panel: Panel, by: str) -> pd.DataFrame:
    """Mean gradient norms, layers (forward order) by members of `by` (best first), and a last row, `transmission`."""
    means = panel.finished["metrics"].map(lambda curves: curves.mean())
    table = pd.DataFrame(list(means), index=panel.finished[by]).groupby(level=0).mean().T
    layers = sorted((name for name in table.index if name.startswith(LAYER)), key=_forward)
    names = [name for name in panel.names if name in table]
    table = table.reindex([*layers, "gradient_flow/transmission"] if layers else [], columns=names)
    return table.rename(lambda name: name.rpartition("/")[2]).dropna(axis=1, how="all")


def _forward(layer: str) -> tuple[int, bool, list[tuple[str, int]]]:
    """As the signal goes: encoder, latent, decoder; numbers as numbers. Layers called `units` adjoin the latent."""
    name = layer.removeprefix(LAYER)
    part = ("encoder", "latent", "decoder").index(name.partition("_")[0]) if name.startswith(("e", "l", "d")) else 1
    parts = [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", name)]
    return part, name.endswith("_units") == (part == 0), parts


def _heat_map(axis: Axes, table: pd.DataFrame) -> None:
    with np.errstate(divide="ignore"):
        norms = np.log10(table.iloc[:-1].to_numpy(dtype=float))
    finite = norms[np.isfinite(norms)]
    shades = np.where(np.isfinite(norms), norms, np.nan)
    image = axis.imshow(shades, aspect="auto", cmap="viridis", interpolation="nearest")
    axis.set_facecolor("0.85")  # no gradient
    middle = (finite.min() + finite.max()) / 2 if finite.size else 0
    rows, columns = table.shape
    for (i, j), value in np.ndenumerate(norms) if columns <= 30 else ():
        text = f"{value:.1f}" if np.isfinite(value) else "−∞"
        colour = "white" if -np.inf < value < middle else "black"
        axis.text(j, i, text, ha="center", va="center", fontsize=FONT - 1.5, color=colour)
    for j, value in enumerate(table.iloc[-1]) if columns <= 30 else ():
        axis.text(j, rows - 1, f"{value:.2g}", ha="center", va="center", fontsize=FONT - 1.5)
    axis.set_ylim(rows - 0.5, -0.5)
    axis.axhspan(rows - 1.5, rows - 0.5, color="white")
    axis.set_yticks(range(rows), table.index, fontsize=FONT)
    axis.set_xticks(range(columns), table.columns, fontsize=FONT, rotation=90)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = axis.figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03)
    bar.ax.tick_params(labelsize=FONT)
    bar.set_label("log10 of the gradient's norm", fontsize=FONT)


def loss_against_bits(panels: Sequence[Panel], by: str, names: Sequence[str]) -> Figure | None:
    """Hard test loss over bits per example, mean over seeds, with the 95 % interval of the loss; None without bits.

    Panels that differ in what else was set share one: their points of one name are joined.
    """
    panels = [p for p in panels if "bits_per_example" in p.finished and p.finished["bits_per_example"].notna().any()]
    if not panels:
        return None
    fields: dict[str, list[Panel]] = {}
    for panel in panels:
        title = ", ".join(value for key, value in panel.keys.items() if key != "settings")
        fields.setdefault(title, []).append(panel)
    figure, axes = grid(list(fields), [f"▲ {name} 0" for name in names], len(names))
    for axis, together in zip(axes, fields.values(), strict=True):
        _field(axis, pd.concat([_points(panel, by) for panel in together], ignore_index=True), names)
    axes[0].set_ylabel("hard test loss", fontsize=8)
    return figure


def _points(panel: Panel, by: str) -> pd.DataFrame:
    """One row for each member of `by`: `name`, `bits`, `loss`, `half` of its interval, `settings` of the panel."""
    rows = []
    for name, runs in panel.finished.groupby(by):
        seeds = runs.groupby("seed")[["bits_per_example", "test_loss"]].mean()
        bits, loss = seeds.mean()
        half = float(np.nan_to_num(half_width(seeds["test_loss"])))
        rows.append(
            {"name": name, "bits": bits, "loss": loss, "half": half, "settings": panel.keys.get("settings", "")}
        )
    return pd.DataFrame(rows)


def _field(axis: Axes, points: pd.DataFrame, names: Sequence[str]) -> None:
    best = points.loc[points["loss"].idxmin(), "name"]
    labels = []
    for name, own in points.sort_values("bits").groupby("name"):
        style = styles(names)[name]
        axis.errorbar(own["bits"], own["loss"], own["half"], **style, marker="o", ms=4, linewidth=0.8, elinewidth=1.5)
        labels.append(Label(name, own["bits"].iloc[-1], own["loss"].iloc[-1], style["color"], name == best))
    shown = inliers(points["loss"].to_numpy())
    within = points[points["loss"].isin(shown)]
    room = max(np.ptp(shown), 0.02 * abs(shown).max())  # for intervals, which two seeds make endless
    low = max((within["loss"] - within["half"]).min(), shown.min() - room)
    limit(axis, low, min((within["loss"] + within["half"]).max(), shown.max() + room), log=low > 0)
    margin = 0.05 * np.ptp(within["bits"]) or 1
    axis.set_xlim(within["bits"].min() - margin, within["bits"].max() + margin)
    axis.set_xlabel("bits per example", fontsize=8)
    of_best = points[points["name"] == best]
    for bits, loss, settings in of_best[["bits", "loss", "settings"]].to_numpy():
        axis.annotate(
            settings, (bits, loss), (-4, -3), textcoords="offset points", ha="right", va="top", fontsize=FONT - 1.5
        )
    write(axis, labels)
