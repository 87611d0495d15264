"""Where commands write: nothing that is there is lost, and nothing half-written is left."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.checks import ConfigError
from telemetry.records import DRAFT


def refuse_existing(path: Path) -> None:
    """Raises a ConfigError if there is something already."""
    if os.path.lexists(path):
        raise ConfigError(f"output={path} exists: choose another name, or remove it first")


@contextmanager
def fresh(path: Path) -> Iterator[Path]:
    """Gives another path in the same folder, for a file or a folder to be made there; at the end, it becomes `path`.

    Raises:
        ConfigError: `path` exists, or cannot be written.
    """
    refuse_existing(path)
    draft = path.with_name(DRAFT + path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(draft)  # a kill left it
        yield draft
        os.replace(draft, path)
    except OSError as error:
        raise ConfigError(f"output={path} cannot be written ({error.strerror or error}): choose another") from error
    finally:
        _remove(draft)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
