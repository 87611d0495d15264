"""Learning curves: the mean over seeds and a band of one deviation, labelled at their ends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from telemetry.comparison.drawing import Label, grid, inliers, limit, styles, write
from telemetry.comparison.runs import Panel

CAPTION = (
    "Mean over seeds, band: one standard deviation. Best and worst by hard test loss are bold; ▲ and ▼ name those that "
    "end beyond the panel. Runs that have not finished are thin lines."
)

RUNNING = " (running)"
EARLY = 0.4
"""The share of the epochs whose curves may be cut off: losses fall by far the most in the first few."""


def learning_curves(panels: Sequence[Panel], by: str, metric: str, names: Sequence[str]) -> Figure:
    """A panel for each setting, a line for each member of `by`; running runs are thin lines of their own.

    Args:
        panels: finished and running runs.
        by: the key that is compared.
        metric: a column of `metrics.csv`.
        names: all members, in the order of the colours.
    """
    alone = [name + RUNNING for panel in panels for name in set(panel.names) - set(panel.finished[by])]
    figure, axes = grid([panel.title for panel in panels], [*(f"▲ {name} 0" for name in names), *alone], len(names))
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, by, metric, styles(names))
    axes[0].set_ylabel(f"{metric} (hard)" if metric == "val_loss" else metric, fontsize=8)
    return figure


def _draw(axis: Axes, panel: Panel, by: str, metric: str, style: Mapping[str, Mapping[str, Any]]) -> None:
    means, labels = [], []
    edges = panel.names[0], panel.names[panel.finished[by].nunique() - 1]
    for name in panel.names:
        runs = panel.runs[panel.runs[by] == name]
        frame = _curves(runs[runs["status"] == "finished"], metric)
        alone = _curves(runs[runs["status"] == "running"], metric)
        axis.plot(alone.index, alone, **style[name], linewidth=0.6)
        mean, spread = frame.mean(axis=1), frame.std(axis=1).fillna(0)
        axis.plot(mean.index, mean, **style[name], linewidth=2.4 if name in edges else 1.2, label=name)
        axis.fill_between(mean.index, mean - spread, mean + spread, color=style[name]["color"], alpha=0.15, linewidth=0)
        drawn = mean if len(mean) else alone.mean(axis=1)
        if len(drawn):
            text = name if len(mean) else name + RUNNING
            labels.append(Label(text, drawn.index[-1], drawn.iloc[-1], style[name]["color"], name in edges))
            means.append(drawn)
    axis.set_xlabel("epoch", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if not means:
        return
    low, high = visible(means)
    limit(axis, low, high, log=_falls_by_factors(metric) and min(mean.min() for mean in means) > 0)
    axis.set_xlim(min(mean.index[0] for mean in means), max(mean.index[-1] for mean in means))
    write(axis, labels)


def visible(means: Sequence[pd.Series]) -> tuple[float, float]:
    """The range to show: all ends but the outliers, and of a middling curve what comes after the first epochs."""
    early = np.median([mean.iloc[int(EARLY * len(mean))] for mean in means])
    shown = [*inliers(np.array([mean.iloc[-1] for mean in means])), early]
    return float(min(shown)), float(max(shown))


def _falls_by_factors(metric: str) -> bool:
    return metric.endswith("loss") or metric.startswith(("gradient_norm", "update_to_weight"))


def _curves(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    # Some are measured in some epochs only; a running run may have none yet.
    columns = [curves[metric].dropna() for curves in runs["metrics"] if metric in curves]
    return pd.concat(columns, axis=1) if columns else pd.DataFrame()
