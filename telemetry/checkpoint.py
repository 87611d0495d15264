"""All that a killed run needs to go on as if nothing had been: one file, replaced as a whole."""

import math
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from conf.checks import ConfigError
from models.autoencoder import Trainer
from telemetry.records import replacing

# Epochs of a small model are shorter than what a second core takes to write a checkpoint; and the file of the best
# weights costs twice as much, though a checkpoint has them, too.
SECONDS_BETWEEN_SAVES = 2.0
SECONDS_BETWEEN_BEST = 10.0


class Checkpoint:
    """How far a training has come: `epoch`s done, `step`s of all epochs, the best weights.

    `checkpoint.npz` alone says how far a run is. Whatever else is in the folder is on disk before it (rows, events), so
    that what is newer can be dropped, or follows from it (`best.weights.h5`).

    Args:
        path: the run directory; a checkpoint there is restored.
        trainer: compiled, its optimizer built.
        every: save after so many steps, too; None: only as epochs end, and not more often than every 2 s.

    Raises:
        ConfigError: the checkpoint there cannot be read.
    """

    def __init__(self, path: Path, trainer: Trainer, every: int | None = None) -> None:
        self.path, self.best_path = path / "checkpoint.npz", path / "best.weights.h5"
        self.trainer, self.every = trainer, every
        self.variables = trainer.state()
        self.epoch = self.step = self.best_epoch = 0
        self.best_val_loss, self.seconds = math.inf, 0.0
        self.best: list[np.ndarray] = []
        self.writer, self.written = ThreadPoolExecutor(1), Future[None]()
        self.written.set_result(None)
        if self.path.exists():
            self._restore()
        self.tick, self.saved, self.saved_at = time.perf_counter(), (self.epoch, self.step), -math.inf
        self.best_written, self.best_written_at = 0, -math.inf

    def steps_to_save(self) -> int:
        """How many steps there may be before it is time to save, 1 or more; a large number if it never is."""
        return sys.maxsize if self.every is None else self.every - self.step % self.every

    def end_steps(self, count: int) -> None:
        """Counts steps, and saves when it is time to."""
        self.step += count
        if self.every is not None and self.step % self.every == 0:
            self.save()

    def end_epoch(self, val_loss: float) -> None:
        """Counts an epoch, looks whether it is the best, and saves when it is time to, but not a run that diverged."""
        self.epoch += 1
        self._count_seconds()
        if val_loss < self.best_val_loss:
            self.best_val_loss, self.best_epoch = val_loss, self.epoch
            self.best = [variable.numpy() for variable in self.trainer.autoencoder.variables]
        if self.trainer.stop_training:
            return
        now = time.perf_counter()
        best_is_due = self.best_epoch != self.best_written and now - self.best_written_at > SECONDS_BETWEEN_BEST
        if best_is_due or now - self.saved_at > SECONDS_BETWEEN_SAVES:  # steps may have saved a moment ago
            self.save()
        if best_is_due:
            self.write_best()

    def save(self) -> None:
        """Replaces the file while training goes on; if that fails, the next call says so, or `finish`."""
        self._count_seconds()
        best = [] if self._best_is_current() else self.best
        arrays = {
            **{f"state/{number}": variable.numpy() for number, variable in enumerate(self.variables)},
            **{f"best/{number}": array for number, array in enumerate(best)},
            **self._numbers(),
        }
        self.written.result()
        self.written = self.writer.submit(_write, self.path, arrays)
        self.saved, self.saved_at = (self.epoch, self.step), time.perf_counter()

    def finish(self) -> None:
        """Saves what is not saved yet, but not a run that diverged, and the best weights; all is on disk then."""
        if self.saved != (self.epoch, self.step) and not self.trainer.stop_training:
            self.save()
        self.write_best()

    def write_best(self) -> None:
        """Brings `best.weights.h5` up to date, once the checkpoint is on disk."""
        self.written.result()
        if self.best_epoch == self.best_written:
            return
        autoencoder = self.trainer.autoencoder
        current = [variable.numpy() for variable in autoencoder.variables]
        _assign(autoencoder.variables, self.best)
        with replacing(self.best_path) as draft:
            autoencoder.save_weights(draft)
        _assign(autoencoder.variables, current)
        self.best_written, self.best_written_at = self.best_epoch, time.perf_counter()

    def close(self) -> None:
        """Waits for what is being written."""
        self.writer.shutdown()

    def result(self) -> dict[str, Any]:
        """Epochs and seconds of all sessions of this run, and its best epoch."""
        return {"epochs": self.epoch, "best_epoch": self.best_epoch, "seconds": round(self.seconds, 3)}

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.seconds, self.tick = self.seconds + now - self.tick, now

    def _numbers(self) -> dict[str, Any]:
        names = ("epoch", "step", "best_epoch", "best_val_loss", "seconds")
        return {name: np.asarray(getattr(self, name)) for name in names}

    def _best_is_current(self) -> bool:
        return self.step == self.best_epoch * self.trainer.steps

    def _restore(self) -> None:
        try:
            with np.load(self.path) as file:
                arrays = dict(file)
            for name, number in self._numbers().items():
                setattr(self, name, number.dtype.type(arrays[name]).item())
            _assign(self.variables, [arrays[f"state/{number}"] for number in range(len(self.variables))])
            if self.best_epoch:
                own = [variable.numpy() for variable in self.trainer.autoencoder.variables]
                self.best = own if self._best_is_current() else [arrays[f"best/{n}"] for n in range(len(own))]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ConfigError(f"{self.path} cannot be read: resume=false moves that run aside") from error


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
