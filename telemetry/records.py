"""Small files that a reader, or a crash, never sees half-written: `metrics.csv` and what else a run records."""

import csv
import math
import os
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conf.checks import ConfigError

DRAFT = ".draft."
"""How the names of files begin that are not complete yet."""


class MetricsFile:
    """`metrics.csv`: a row an epoch, written as the epoch ends.

    Args:
        path: of the file.
        epochs: how many of the rows already there are kept; those of later epochs are dropped.

    Raises:
        ConfigError: what is there is damaged.
    """

    def __init__(self, path: Path, epochs: int) -> None:
        self.path = path
        rows = [row for row in _checked(path) if int(row["epoch"]) <= epochs]
        self._rewrite(list(rows[0]) if rows else [], rows)

    def append(self, row: Mapping[str, float]) -> None:
        """Adds the row of an epoch; the first row gives the columns, a later one may add some."""
        if new := row.keys() - set(self.columns):
            self._rewrite(sorted({*self.columns, *new}, key=_column_order), read_metrics(self.path))
        with self.path.open("r+", newline="") as file:  # or a file that somebody has deleted would lack its head
            file.seek(0, os.SEEK_END)
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def means(self, columns: Mapping[str, str]) -> dict[str, float | None]:
        """The mean of each column over the epochs that have a number in it, by new names; None if no epoch has."""
        rows = read_metrics(self.path)
        values = {name: [float(row[column]) for row in rows if row[column]] for name, column in columns.items()}
        finite = {name: [value for value in found if math.isfinite(value)] for name, found in values.items()}
        return {name: statistics.fmean(found) if found else None for name, found in finite.items()}

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        self.columns = columns
        lines = [columns, *([row.get(column, "") for column in columns] for row in rows)] if columns else []
        write_atomically(self.path, "".join(",".join(line) + "\n" for line in lines))


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a `metrics.csv`, without a last one cut short; empty where the file is missing."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def _checked(path: Path) -> list[dict[str, str]]:
    try:
        rows = read_metrics(path)
        for row in rows:
            int(row["epoch"]), [float(value) for value in row.values() if value]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        advice = "mend it, or delete it: the same command goes on with the run, without the rows so far"
        raise ConfigError(f"{path} is damaged: {advice}") from error
    return rows


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a draft's path to write to; what reads the file, even after a crash, sees the old one or the new one."""
    draft = path.with_name(DRAFT + path.name)
    draft.unlink(missing_ok=True)  # HDF5 may still have one open that met a full disk
    yield draft
    with draft.open("rb+") as file:
        os.fsync(file.fileno())  # or a power failure may leave the new name with nothing behind it
    os.replace(draft, path)


def write_atomically(path: Path, text: str) -> None:
    """Writes a small text file, `replacing` the old one."""
    with replacing(path) as draft:
        draft.write_text(text)


def _column_order(name: str) -> tuple[bool, bool, bool, str]:
    return name != "epoch", name != "loss", not name.startswith("val_"), name
