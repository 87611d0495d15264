"""The ranking as text: cells short enough for a README, Markdown, and columns for the terminal."""

import math
import shutil
import textwrap
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import pandas as pd

from telemetry.comparison.statistics import SIGNIFICANT

# Title, key of result.json, format; a column that no run has is left out.
COLUMNS = [
    ("hard test loss", "test_loss", "{:.4f}"),
    ("test PSNR, dB", "test_psnr", "{:.2f}"),
    ("test SI-SDR, dB", "test_si_sdr", "{:.2f}"),
    ("test log-spectral distance, dB", "test_log_spectral_distance", "{:.2f}"),
    ("val gap", "val_gap", "{:.4f}"),
    ("bits", "bits_per_example", "{:.1f}"),
    ("bits/s", "bits_per_second", "{:.0f}"),
    ("transmission", "transmission", "{:.2f}"),
    ("seconds", "seconds", "{:.0f}"),
    ("code usage", "code_usage", "{:.2f}"),
    ("zero fraction", "zero_fraction", "{:.2f}"),
    ("gradient cosine", "gradient_cosine", "{:.2f}"),
    ("gradient bias", "gradient_bias", "{:.2f}"),
    ("gradient variance", "gradient_variance", "{:.2f}"),
]

NOTES = (
    "Best hard test loss first. Means over seeds; ± is the half-width of the 95 % t-interval.",
    "p vs best: paired t-test (scipy.stats.ttest_rel) of the test losses over the seeds that both have, against the "
    f"best of the same setting, Holm-corrected over the others; * below {SIGNIFICANT}; empty below two common seeds.",
)


class Table(NamedTuple):
    """Short texts; the first `labels` columns are names, the last of those what is compared."""

    labels: int
    header: list[str]
    lines: list[list[str]]


def table(ranking: pd.DataFrame, labels: Sequence[str]) -> Table:
    """The ranking in a form to be read.

    Args:
        ranking: as `statistics.ranking` gives it.
        labels: its columns that say what a row is.
    """
    columns = [column for column in COLUMNS if f"{column[1]}_count" in ranking and ranking[f"{column[1]}_count"].any()]
    lines, best = [], None
    for row in ranking.to_dict("records"):
        names = [str(row[key]) for key in labels]
        numbers = [_number(row[f"{key}_mean"], form) for _, key, form in columns]
        if not math.isnan(row["test_loss_ci95"]):
            numbers[0] += f" ± {row['test_loss_ci95']:.4f}"
        p = _p(row["p_holm"]) if names[:-1] == best else "best"
        best = names[:-1]
        lines.append([*names, str(row["runs"]), numbers[0], p, *numbers[1:]])
    titles = [title for title, _, _ in columns[1:]]
    return Table(len(labels), [*labels, "runs", COLUMNS[0][0], "p vs best", *titles], lines)


def markdown(table: Table, notes: Sequence[str]) -> str:
    """The table, how to read it, and more notes below.

    Args:
        table: to write.
        notes: a list of sentences.
    """
    n = table.labels
    named = [[*(f"`{name}`" for name in line[:n]), *line[n:]] for line in table.lines]
    rows = [table.header, ["---"] * n + ["--:"] * (len(table.header) - n), *named]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", *NOTES, *(["", *(f"- {note}" for note in notes)] if notes else [])]) + "\n"


def terminal(table: Table) -> str:
    """Aligned columns, as many as the terminal is wide enough for, with a heading where the setting changes."""
    first = table.labels - 1
    titles, rows = table.header[first:], [line[first:] for line in table.lines]
    columns = list(zip(titles, *rows, strict=True))
    widths = [
        max(map(len, [*column[1:], *(column[0].split() if i else column[:1])])) for i, column in enumerate(columns)
    ]
    room = shutil.get_terminal_size((10_000, 24)).columns
    shown = sum(width <= room for width in accumulate(width + 2 for width in widths))
    wrapped = [textwrap.wrap(title, width) for title, width in zip(titles, widths, strict=True)]
    height = max(map(len, wrapped))
    above = [[([""] * height + title)[i - height] for title in wrapped] for i in range(height)]
    text = []
    for setting, lines in groupby(zip(table.lines, rows, strict=True), key=lambda pair: pair[0][:first]):
        text += ["", *filter(None, [", ".join(setting)])]
        text += [_aligned(line, widths[:shown]) for line in [*above, *(row for _, row in lines)]]
    hidden = [f"(a wider terminal shows {', '.join(titles[shown:])}, too)"] if shown < len(titles) else []
    return "\n".join([*text, *hidden])


def left_out(runs: pd.DataFrame) -> list[str]:
    """A sentence for each run that is not in the table."""
    rows = runs[runs["status"] != "finished"].sort_values("status", kind="stable").to_dict("records")
    return [f"{row['status']}: {row['path']} ({row['reason'] or 'no reason stored'})" for row in rows]


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    numbers = [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=False)]
    return "  ".join([line[0].ljust(widths[0]), *numbers]).rstrip()


def _number(value: float, form: str) -> str:
    if math.isnan(value):
        return ""  # runs of another kind of data have this one
    text = form.format(value)
    return text.lstrip("-") if float(text) == 0 else text


def _p(p: float) -> str:
    if math.isnan(p):
        return ""
    text = "<0.001" if p < 0.001 else f"{p:.3f}"
    return f"{text} *" if p < SIGNIFICANT else text
