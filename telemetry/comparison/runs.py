"""Run directories as they are found: finished, running, failed, diverged or broken; and what to compare of them."""

import io
import json
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from conf import GROUPS
from conf.checks import ConfigError
from conf.settings import INCIDENTAL, settings

# What differs here makes two runs no others; the number of epochs does.
HOW = [key for key in INCIDENTAL if key != "epochs"]

RECORDS = {"result.json", "config.yaml", "metrics.csv", "train.log"}
STATUSES = ("finished", "running", "diverged", "failed")


class Panel(NamedTuple):
    """Runs that may be compared with each other.

    Args:
        title: for a picture.
        keys: what they have in common and other panels' have not; empty for a single panel.
        runs: finished and running ones, as `read_runs` gives them.
        names: the members of `by`, best mean test loss first, then those that no run has finished of.
    """

    title: str
    keys: dict[str, str]
    runs: pd.DataFrame
    names: list[str]

    @property
    def finished(self) -> pd.DataFrame:
        """Without the running ones."""
        return self.runs[self.runs["status"] == "finished"]


def panels_of(runs: pd.DataFrame, keys: list[str], by: str) -> list[Panel]:
    """Splits finished and running runs by those keys that vary among them.

    Args:
        runs: as `read_runs` gives them.
        keys: that make runs incomparable.
        by: the key that is compared.
    """
    varying = [key for key in keys if runs[key].nunique() > 1]
    panels = []
    for values, group in runs.groupby(varying or keys[:1]):
        finished = group[group["status"] == "finished"]
        of_seeds = finished.groupby([by, "seed"])["test_loss"].mean()  # the same seed twice is no second sample
        ranked = list(of_seeds.groupby(by).mean().sort_values(kind="stable").index)
        names = [*ranked, *sorted(set(group[by]) - set(ranked))]
        panels.append(Panel(", ".join(values), dict(zip(varying, values, strict=False)), group, names))
    return panels


def overall(panels: Sequence[Panel]) -> list[str]:
    """All members, best mean rank over the panels first: losses of different panels are of different sizes."""
    ranks: dict[str, list[int]] = {}
    for panel in panels:
        for rank, name in enumerate(panel.names):
            ranks.setdefault(name, []).append(rank)
    return sorted(ranks, key=lambda name: statistics.fmean(ranks[name]))


def check_metric(runs: pd.DataFrame, metric: str) -> None:
    """Makes sure that the curves have such a column.

    Raises:
        ConfigError: those of a finished run have not.
    """
    for path, status, curves in zip(runs["path"], runs["status"], runs["metrics"], strict=True):
        if metric not in curves and status == "finished":
            raise ConfigError(
                f"metric={metric} is no column of {path}/metrics.csv: choose from {', '.join(curves.columns)}, "
                f"or leave such runs out with where.data=..."
            )


def read_runs(folder: Path, where: Mapping[str, str]) -> pd.DataFrame:
    """One row for each run below a folder: `path`, `status`, `reason`, its choices, `settings`, `seed` and results.

    `metrics` holds the curves of finished and running runs, by epoch. What can't be read has the status `broken`,
    and is there whatever `where` says. Runs that were moved aside (`seed=0~1`) are not looked for.
    """
    rows = map(_read, _run_folders(folder))
    fitting = [row for row in rows if row["status"] == "broken" or all(row[k] == v for k, v in where.items())]
    return pd.DataFrame(fitting, columns=None if fitting else ["status"])


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if "~" not in name and not name.startswith("."))
        if RECORDS & set(files):
            yield Path(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return {**_content(path), "path": path}
    except Exception as error:  # whatever is wrong with one directory, the others are to be seen
        reason = " ".join(str(error).split())[:200]
        return {"status": "broken", "reason": f"{type(error).__name__}: {reason}", "path": path}


def _content(path: Path) -> dict[str, Any]:
    text = (path / "result.json").read_text() if (path / "result.json").exists() else '{"status": "running"}'
    result = json.loads(text)
    config = result.get("config") or yaml.load((path / "config.yaml").read_text(), yaml.CSafeLoader)
    row = {
        **{group: str(config["choices"][group]) for group in GROUPS},
        "settings": settings(config, HOW, GROUPS) or "defaults",
        "reason": None,
        "test_loss": math.nan,
        **{key: value for key, value in result.items() if key not in ("config", "versions")},
        "seed": int(config["seed"]),
    }
    if row["status"] not in STATUSES:
        raise ValueError(f"result.json has the status {row['status']!r}")
    if row["status"] == "finished" and not math.isfinite(row["test_loss"]):
        raise ValueError(f"result.json has the test_loss {row['test_loss']}")
    if row["status"] == "finished":
        row["metrics"] = read_curves(path / "metrics.csv")
        if row["metrics"].empty:
            raise ValueError("metrics.csv is empty")
    if row["status"] == "running":
        row["metrics"], row["reason"] = _so_far(path, config["epochs"])
    return row


def _so_far(path: Path, epochs: int) -> tuple[pd.DataFrame, str]:
    file = path / "metrics.csv"
    curves = read_curves(file) if file.exists() else pd.DataFrame()
    minutes = (time.time() - max((path / name).stat().st_mtime for name in RECORDS if (path / name).exists())) / 60
    return curves, f"{len(curves)} of {epochs} epochs, last written {minutes:,.0f} minutes ago: running or interrupted"


def read_curves(path: Path) -> pd.DataFrame:
    """The numbers of a `metrics.csv` by epoch, without a last line that is still being written."""
    lines = path.read_text()
    if "\n" not in lines:
        return pd.DataFrame()
    curves = pd.read_csv(io.StringIO(lines[: lines.rfind("\n") + 1]), index_col="epoch")
    return curves.apply(pd.to_numeric)
