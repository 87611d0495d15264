"""The user's own files: found in a folder, and split by name."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from data.files import visible
from data.pipeline import DataError, Splits


def find(path: str | None, suffixes: Sequence[str], kind: str, example: str) -> list[str]:
    """All files of a kind under `path`, in the order of their relative names' hashes.

    Args:
        path: `data.path`: a folder, searched with all its subfolders; hidden files are left out.
        suffixes: of the files to find, in lower case.
        kind: what to call such files: "PNG or JPEG".
        example: the words on the command line that give a folder.

    Raises:
        DataError: no such folder, or fewer than 3 such files in it.
    """
    if not path:
        raise DataError(f"data.path is missing: give your folder, as in {example}")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.path={path} {'is not a folder' if folder.exists() else 'does not exist'}")
    files = visible(folder, suffixes)
    if len(files) < 3:
        raise DataError(
            f"data.path={folder} holds {len(files)} {kind} files, subfolders included: "
            f"at least 3 are needed, one each for training, validation and test"
        )
    order = sorted(files, key=lambda file: hashlib.sha256(file.as_posix().encode()).digest())
    return [str(folder / file) for file in order]


def split(files: list[str]) -> dict[str, list[str]]:
    """80 %, 10 % and 10 % of the files, by split.

    Which file goes where depends on its place among the hashes: adding files moves few others.
    """
    tenth = max(1, len(files) // 10)
    parts = files[2 * tenth :], files[tenth : 2 * tenth], files[:tenth]
    return dict(zip(Splits._fields, parts, strict=True))


def state(path: str | None) -> str:
    """Names, sizes and times of all files under `path`: while it is the same, so is what a loader reads there."""
    files = sorted(file for file in Path(path).expanduser().rglob("*") if file.is_file()) if path else []
    return "".join(f"{file} {stat.st_size} {stat.st_mtime_ns}\n" for file in files for stat in [file.stat()])
