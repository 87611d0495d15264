"""Where commands write: nothing that is there is lost, and nothing half-written is left."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conf.checks import ConfigError
from telemetry.records import DRAFT


def check_new(path: Path) -> None:
    """Raises a ConfigError if there is something already, or nothing can be made: before the work, not after it."""
    if os.path.lexists(path):
        raise ConfigError(f"output={path} exists: choose another name, or remove it first")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises a ConfigError if there can be no such folder to write to."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.exists(place))
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        reason = "is read-only" if there.is_dir() else "is no folder"
        raise ConfigError(f"output={path} cannot be written ({there} {reason}): choose another")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises a ConfigError in the place of the system's errors."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"output={path} cannot be written ({error.strerror or error}): choose another") from error


@contextmanager
def fresh(path: Path) -> Iterator[Path]:
    """Gives another path in the same folder, for a file or a folder to be made there; at the end, it becomes `path`.

    Raises:
        ConfigError: `path` exists, or cannot be written.
    """
    check_new(path)
    draft = path.with_name(DRAFT + path.name)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(draft)  # a kill left it
            yield draft
            os.replace(draft, path)
    finally:
        _remove(draft)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
