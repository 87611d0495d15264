"""Rate against distortion as a table in Markdown, and as a picture."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from coding.baselines import LOSSLESS
from telemetry.comparison.drawing import COLOURS, FONT, LINES, WIDTH
from telemetry.rendering import png
from telemetry.trouble import writable

log = logging.getLogger("codec")

RATES = ["bits", "ideal_bits", "nominal_bits", "alone_bits"]
MEASURES = {
    "loss": ("hard test loss", "{:.4f}"),
    "psnr": ("PSNR, dB", "{:.2f}"),
    "si_sdr": ("SI-SDR, dB", "{:.2f}"),
    "log_spectral_distance": ("log-spectral distance, dB", "{:.2f}"),
}

NOTES = (
    "Means over the test set, and of runs over seeds. Bits are counted: the range coder, under the training set's "
    "statistics, has written one file of the whole test set, header included, and the loss is that of what was decoded "
    "from it. *Ideal*: the code length under these statistics, without a header. *Uncoded*: units x positions x "
    "log2(levels). *Alone*: a file for each example, header included.",
    "Of the baselines, PCA and those under the range coder know the training set, too; the others know nothing of such "
    "data. One picture, or one file of sound, has the whole test set in it, as ours has; PCM, mu-law, PCA and xz are "
    "counted without a header.",
)

MARKERS = "osD^vP*X<>ph"
GREYS = ("0.35", "0.55", "0.15")
LABELS_ABOVE, LABELS_BELOW = (4, 3), (-3, -9)
"""Of points, in points."""
AROUND = 8.0
"""How much less than the best run's loss is still drawn; beyond the worst one's, a quarter of that."""


def write(table: pd.DataFrame, output: Path) -> None:
    """Stores `rates.csv`, a row for each run and baseline, `rates.md`, their means, and a picture for each field.

    Args:
        table: as `coding.rates.measure` gives it.
        output: a folder; what was there of the same names is replaced.

    Raises:
        ConfigError: it cannot be written.
    """
    rows = means(table)
    with writable(output):
        output.mkdir(parents=True, exist_ok=True)
        table.to_csv(output / "rates.csv", index=False, float_format="%.8g")
        (output / "rates.md").write_text(text := markdown(rows))
        for name, own in rows.groupby("field", sort=False):
            (output / f"{name}.png").write_bytes(png(figure(str(name), own)))
    log.info("%s\nwritten to %s/", text, output)


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Of the seeds of a setting, a row: rates as bits per second where there are seconds, and `runs`.

    Args:
        table: as `coding.rates.measure` gives it.
    """
    measured = [*RATES, *(name for name in MEASURES if name in table)]
    table = table.assign(**{key: table[key] / table["seconds"].fillna(1) for key in RATES})
    groups = table.groupby(["field", "is_run", "family", "setting"], sort=False)
    found = groups[[*measured, "units", "levels", "seconds"]].mean()
    return found.assign(runs=groups.size()).reset_index().sort_values(["levels", "units"], kind="stable")


def markdown(rows: pd.DataFrame) -> str:
    """A section for each field, runs first.

    Args:
        rows: as `means` gives them.
    """
    sections = [_section(name, own) for name, own in rows.groupby("field", sort=False)]
    return "\n".join([*sections, *(f"{note}\n" for note in NOTES)])


def _section(name: str, rows: pd.DataFrame) -> str:
    unit = unit_of(rows)
    measures = [key for key in MEASURES if key in rows and rows[key].notna().any()]
    header = ["codec", "setting", "runs", unit, "ideal", "uncoded", "alone", *(MEASURES[key][0] for key in measures)]
    lines = []
    for row in rows.to_dict("records"):
        rates = [_number(row[key], "{:,.0f}" if row[key] >= 1000 else "{:.1f}") for key in RATES]
        runs = str(row["runs"]) if row["is_run"] else ""
        errors = [_number(row[key], MEASURES[key][1]) for key in measures]
        lines.append([row["family"], row["setting"], runs, *rates, *errors])
    rows_of_text = [header, ["---"] * 2 + ["--:"] * (len(header) - 2), *lines]
    return "\n".join([f"## {name}", "", *(f"| {' | '.join(line)} |" for line in rows_of_text), ""])


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)


def unit_of(rows: pd.DataFrame) -> str:
    """What rates are of: images have no seconds."""
    return "bits per image" if rows["seconds"].isna().all() else "bits/s"


def figure(name: str, rows: pd.DataFrame) -> Figure:
    """The loss over the rate, and of audio the SI-SDR below: runs in colour by levels, baselines grey.

    Filled points are actual bits, hollow ones the ideal code length; the numbers beside them are the units.

    Args:
        name: of the field.
        rows: its part of `means`.
    """
    keys = [key for key in ("loss", "si_sdr") if key in rows and rows[key].notna().any()]
    drawing = Figure(figsize=(WIDTH, 0.6 + 4.2 * len(keys)), dpi=150, layout="constrained")
    axes = drawing.subplots(len(keys), 1, squeeze=False, sharex=True)[:, 0]
    runs, others = rows[rows["is_run"]], rows[~rows["is_run"]]
    for axis, key in zip(axes, keys, strict=True):
        _runs(axis, runs, key)
        _baselines(axis, others, key)
        _range(axis, runs, key)
        axis.set_ylabel(MEASURES[key][0], fontsize=8)
        axis.grid(color="0.92", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(which="both", labelsize=FONT)
    axes[-1].set_xlim(runs["ideal_bits"].min() / 1.5, rows["bits"].max() * 1.2)
    axes[-1].set_xlabel(unit_of(rows), fontsize=8)
    axes[0].set_title(name, fontsize=FONT + 2, loc="left")
    handles, labels = axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right upper", fontsize=FONT, frameon=False)
    return drawing


def _runs(axis: Axes, runs: pd.DataFrame, key: str) -> None:
    for i, (name, own) in enumerate(runs.groupby("family", sort=False)):
        own, colour = own.sort_values("bits"), COLOURS[1:][i % len(COLOURS[1:])]
        offset, side = (LABELS_ABOVE, "left") if i % 2 == 0 else (LABELS_BELOW, "right")  # lines are often close
        axis.plot(own["bits"], own[key], "o-", color=colour, ms=4.5, linewidth=1.4, label=name, zorder=4)
        axis.plot(own["ideal_bits"], own[key], "o", color=colour, mfc="white", ms=4.5, zorder=3)
        for x, y, units in own[["bits", key, "units"]].to_numpy():
            text: Any = {"textcoords": "offset points", "fontsize": FONT, "color": colour, "ha": side}
            axis.annotate(f"{units:.0f}", (x, y), offset, **text)
    axis.plot([], [], "o", color="black", mfc="white", ms=4.5, label="ideal code length")


def _baselines(axis: Axes, rows: pd.DataFrame, key: str) -> None:
    for i, (name, own) in enumerate(rows.groupby("family", sort=False)):
        grey, marker, line = GREYS[i % len(GREYS)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)]
        lossy = own[own["setting"] != LOSSLESS].sort_values("bits")
        if len(lossy):
            axis.plot(
                lossy["bits"], lossy[key], color=grey, marker=marker, ms=4, linestyle=line, linewidth=0.7, label=name
            )
        for bits in own.loc[own["setting"] == LOSSLESS, "bits"]:
            axis.axvline(bits, color=grey, linestyle=":", linewidth=0.8)
            text = f"{name}, {LOSSLESS}"
            axis.text(
                bits, 0.02, text, transform=axis.get_xaxis_transform(), rotation=90, fontsize=FONT - 1.5, color=grey,
                ha="right", va="bottom",
            )  # fmt: skip


def _range(axis: Axes, runs: pd.DataFrame, key: str) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    low, high = runs[key].min(), runs[key].max()
    if key == "loss":
        axis.set_yscale("log")
        axis.set_ylim(max(low / AROUND, np.finfo(float).tiny), high * AROUND / 4)
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            ticks("{x:g}")
    else:
        axis.set_ylim(low - 3, high + 12)
