"""What the machine does to a run: a full disk, too little memory, a folder that is gone. One sentence for each."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.checks import ConfigError, first_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GONE = (errno.ENOENT, errno.ESTALE)
CLOSED = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOTDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.EBUSY),
)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Around what allocates.

    Raises:
        ConfigError: in the place of an allocation's error.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_memory(error):
            raise
        advice = "make batch_size, latent.units or the layers (model....) smaller, or the data's examples"
        raise ConfigError(f"out of memory ({first_line(error)[:160]}): {advice}") from error


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Around what writes to a run's folder; what is there already stays.

    Args:
        path: of the folder.

    Raises:
        ConfigError: in the place of an error of the file system, whoever met it: Python, TensorFlow or HDF5.
    """
    there = os.path.exists(path)  # which, unlike Path's, takes any path
    try:
        yield
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        _hide_hdf5()
        raise ConfigError(_sentence(path, code, there)) from error


def _hide_hdf5() -> None:
    # HDF5 tries once more as it lets go of its file, and h5py prints that failure after ours has been told.
    error, unraisable = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda *about: None if "decrement id ref count" in str(about[1]) else error(*about)
    sys.unraisablehook = lambda about: None if "h5py" in str(about.object) else unraisable(about)


def _sentence(path: Path, code: int, was_there: bool) -> str:
    reason = os.strerror(code)
    if code in FULL:
        return f"{path}: {reason}: make room, and the same command goes on with the run"
    if code in GONE and was_there:
        return (
            f"{path}, or a file in it, was deleted or moved as the run was writing there: the same command starts anew"
        )
    return f"can't write to output_dir={path}: {reason}: mend that, or choose another output_dir"


def _code(error: Exception) -> int | None:
    """The error's number, which TensorFlow and HDF5 only give in words."""
    if isinstance(error, OSError) and error.errno in (*FULL, *GONE, *CLOSED):
        return error.errno
    if not (isinstance(error, OSError | RuntimeError) or _is_tensorflows(error)):
        return None
    return next((code for code in (*FULL, *CLOSED, *GONE) if os.strerror(code) in str(error)), None)


def _is_of_memory(error: Exception) -> bool:
    exhausted = _is_tensorflows(error) and type(error).__name__ == "ResourceExhaustedError" and _code(error) is None
    return isinstance(error, MemoryError) or exhausted or "std::bad_alloc" in str(error)


def _is_tensorflows(error: Exception) -> bool:
    return type(error).__module__.startswith("tensorflow.")
