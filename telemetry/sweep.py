"""A sweep as a whole: how far it is, what became of each run, and that a run that fails does not end it."""

import csv
import io
import math
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from conf import compose
from conf.checks import ConfigError, check
from conf.errors import RunFailed, one_sentence
from telemetry.records import read_metrics
from telemetry.run import Busy, RunDirectory, safe_name
from telemetry.workers import prepare, settle

COLUMNS = ("run", "status", "val_loss", "seconds", "settings", "path", "reason")


class Sweep(Callback):
    """What Hydra tells when a sweep and its runs begin and end; single runs are none of its business.

    A folder in `hydra.sweep.dir`, named after the command, holds

    sweep.log   progress, as on the console, and the tracebacks of crashes
    runs.csv    a row for each run that the last command came to; `seconds` only of what it trained itself. Of a search,
                which has its study.db there, too, a row for each trial

    The status of a run is `finished`, `diverged`, `failed`, or `busy`: another process has it. To Hydra's sweeper,
    to diverge is an infinitely bad result, and the last two are none; errors would end the sweep.
    """

    lock: ClassVar[AbstractContextManager[Any] | None] = None  # until the process ends; no part of what workers get

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.process = os.getpid()
        self.runs: list[list[str]] = []
        self.total: int | None = None
        self.to_do: set[int] = set()

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Looks at all runs before the first one; goes no further if all have something wrong with them."""
        self.began = time.time()
        name = safe_name(",".join(config.hydra.overrides.task) or "defaults")
        self.folder = Path(config.hydra.sweep.dir).expanduser() / name
        with read_write(config):
            config.hydra.sweep.dir = str(self.folder)  # where Hydra leaves its multirun.yaml
        with one_sentence():
            prepare(config.hydra.launcher)
            fixed, self.runs = planned(config)
            self.fixed = set() if self.runs else set(fixed)
            self.total = len(self.runs) or OmegaConf.select(config, "hydra.sweeper.trials")
            title = f"sweep{f' of {self.total} runs' if self.total else ''}: {self.folder}/sweep.log"
            print(title, flush=True)  # now, since looking at many runs takes a while
            refused = self._look() if self.runs else self._look_at_search(fixed)
            if refused and len(refused) == len(self.runs):
                raise ConfigError(refused[0])
            Sweep.lock = self._claim()
            self._log(title)
            self._begin_table()
            there = (self.total or 0) - len(self.to_do) - len(refused)
            if there > 0:
                self._say(f"{there} of them are there already")
            if refused:
                self._say(f"{len(refused)} of them will fail: {'; '.join(dict.fromkeys(refused))}")
        self.launched, self.done_before = time.time(), self._done()

    def on_job_start(self, config: DictConfig, **kwargs: object) -> None:
        """Says which run this is, and how the sweep is doing."""
        if self.folder is None:
            return
        settle(self.process)
        self.tick = time.time()
        cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        self.path, self.stored = _path_and_whether_finished(cfg)
        self._say(f"{self._title(config)}: {self._settings(config)} ({self._progress()})")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: object) -> None:
        """Records what became of the run."""
        if self.folder is None:
            return
        value, status, reason, seconds = job_return._return_value, "finished", "", time.time() - self.tick
        if job_return.status == JobStatus.FAILED:
            status, reason = outcome(value)
            self._say(f"{self._title(config)} {status}: {reason}")
            if not isinstance(value, ConfigError | RunFailed):
                self._append("sweep.log", "".join(traceback.format_exception(value)))
            value = math.inf
            job_return.return_value = value if status == "diverged" else None  # the worst, or nothing to learn from
            job_return.status = JobStatus.COMPLETED
        elif not self.stored:
            self._say(f"{self._title(config)} finished in {duration(seconds)}: val_loss {value:.5f}")
        row = {"run": config.hydra.job.num + 1, "status": status, "val_loss": value, "reason": reason}
        row |= {"settings": self._settings(config), "path": self.path}
        self._record({**row, "seconds": "" if self.stored else f"{seconds:.1f}"})

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Sums up; the process's exit status is 1 if a run failed."""
        rows = self._rows()
        counts = Counter(row["status"] for row in rows)
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        self._say(f"sweep ended after {duration(time.time() - self.began)}: {told}{_best(rows)}")
        self._say(f"a row for each run: {self.folder}/runs.csv")
        bad = ("diverged", "failed") if self.runs else ("failed",)  # a search may well come to what diverges
        failed = [row for row in rows if row["status"] in bad]
        for row in failed:
            self._say(f"  run {row['run']} {row['status']}: {row['settings']}: {row['reason']}")
        if failed:
            reasons = {row["reason"] for row in failed}
            sys.exit(
                f"error: {len(failed)} of {len(rows)} runs failed" + (f": {reasons.pop()}" if len(reasons) == 1 else "")
            )

    def _claim(self) -> AbstractContextManager[Any]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return FileLock(self._folder / ".lock").acquire(blocking=False)
        except Timeout:
            raise Busy(f"another process is at this sweep, {self.folder}: wait for it to end") from None
        except OSError as error:
            raise ConfigError(f"can't write to {self.folder}: {error.strerror}") from error

    @property
    def _folder(self) -> Path:
        assert self.folder is not None
        return self.folder

    def _look(self) -> list[str]:
        """Takes note of the runs that are still to be done; returns what is wrong with those that can't be."""
        refused = []
        for number, words in enumerate(self.runs, start=1):
            try:
                if RunDirectory(check(compose(words))).finished() is None:
                    self.to_do.add(number)
            except ConfigError as error:
                refused.append(str(error))
        return refused

    def _look_at_search(self, fixed: list[str]) -> list[str]:
        check(compose(fixed))
        rows = self._rows() if (self._folder / "study.db").exists() else []
        ended = {int(row["run"]) for row in rows if row["status"] in ("finished", "diverged")}
        self.to_do = set(range(1, (self.total or 0) + 1)) - ended
        return []

    def _begin_table(self) -> None:
        path = self._folder / "runs.csv"
        if path.exists() and (self._folder / "study.db").exists():
            return
        path.unlink(missing_ok=True)
        self._record(dict(zip(COLUMNS, COLUMNS, strict=True)))

    def _done(self) -> int:
        return sum(row["status"] == "finished" and row["seconds"] != "" for row in self._rows())

    def _title(self, config: DictConfig) -> str:
        return f"run {config.hydra.job.num + 1}{f' of {self.total}' if self.total else ''}"

    def _settings(self, config: DictConfig) -> str:
        """Those of a run's words that not all runs share."""
        common = set.intersection(*map(set, self.runs)) if len(self.runs) > 1 else self.fixed
        return " ".join(word for word in config.hydra.overrides.task if word not in common)

    def _progress(self) -> str:
        rows = self._rows()
        done = self._done() - self.done_before
        left = len(self.to_do - {int(row["run"]) for row in rows})
        pace = (time.time() - self.launched) / max(1, done)
        estimate = f", about {duration(left * pace)} left" if done and left else ""
        return f"elapsed {duration(time.time() - self.began)}{estimate}{_best(rows, 'best so far')}"

    def _say(self, text: str) -> None:
        print(text, flush=True)  # Hydra sets up logging for each run, not for the time between
        self._log(text)

    def _log(self, text: str) -> None:
        self._append("sweep.log", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def _record(self, row: Mapping[str, object]) -> None:
        line = io.StringIO()
        csv.DictWriter(line, COLUMNS, lineterminator="\n").writerow(row)
        self._append("runs.csv", line.getvalue())

    def _rows(self) -> list[dict[str, str]]:
        return list({row["run"]: row for row in read_metrics(self._folder / "runs.csv")}.values())

    def _append(self, name: str, text: str) -> None:
        # Opened anew each time, whole lines at once: several processes write here.
        try:
            with (self._folder / name).open("a", newline="") as file:
                file.write(text)
        except OSError as error:
            raise ConfigError(f"can't write to {self.folder}: {error.strerror}") from error


def planned(config: DictConfig) -> tuple[list[str], list[list[str]]]:
    """What a sweep will do, as `key=value` words: what all runs have, as the command line says, and each run's.

    Of another sweeper than Hydra's own, which finds its runs as it goes, there are none yet.
    """
    sweeper, words = config.hydra.sweeper, list(config.hydra.overrides.task)
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    fixed = [str(override.input_line) for override in parser.parse_overrides(words) if not override.is_sweep_override()]
    if sweeper._target_ != BasicSweeperConf._target_:
        return fixed, []
    words = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + words
    (runs,) = BasicSweeper.split_arguments(parser.parse_overrides(words), None)
    return fixed, runs


def outcome(error: Exception) -> tuple[str, str]:
    """Status and reason of a run that raised an error."""
    if isinstance(error, RunFailed):
        return "diverged", str(error)
    if isinstance(error, ConfigError):
        return "busy" if isinstance(error, Busy) else "failed", str(error)
    return "failed", " ".join(f"{type(error).__name__}: {error}".split())[:500]


def duration(seconds: float) -> str:
    """In a unit that makes it a number of two or three digits."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _path_and_whether_finished(cfg: DictConfig) -> tuple[Path | None, bool]:
    try:
        run = RunDirectory(check(cfg))
        return run.path, run.finished() is not None
    except ConfigError:  # the run itself will say so
        return None, False


def _best(rows: list[dict[str, str]], title: str = "best") -> str:
    finished = [row for row in rows if row["status"] == "finished"]
    if not finished:
        return ""
    best = min(finished, key=lambda row: float(row["val_loss"]))
    return f"; {title} {float(best['val_loss']):.4g} {best['settings']}"
