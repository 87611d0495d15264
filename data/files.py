"""Which files in a user's folder are images, and which are sounds. No TensorFlow: it answers at once."""

from collections.abc import Sequence
from pathlib import Path

IMAGES = (".png", ".jpg", ".jpeg")
SOUNDS = (".wav", ".flac")
"""Suffixes, in lower case; what is decoded is written with the first one."""


def visible(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """All such files, subfolders included and hidden ones left out, relative to the folder."""
    candidates = (file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    relative = [file.relative_to(folder) for file in candidates]
    return [file for file in relative if not any(part.startswith(".") for part in file.parts)]
