"""How often each unit takes each code: what the entropy coder of a run knows."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from telemetry.records import replacing

FILE = "code_statistics.npz"
"""In a run's folder."""


class CodeStatistics(NamedTuple):
    """Counts over the training set.

    Attributes:
        counts: integers `[units, symbols]`; the symbol `s` stands for the code `first + s`.
        first: the smallest code that is counted.
        bounded: whether these are all codes that exist.
        shape: of the examples, `[height, width, 1]` or `[samples, 1]`.
        positions: of a code, without its units: `[]` of an image's, `[frames]` of a clip's.
    """

    counts: np.ndarray
    first: int
    bounded: bool
    shape: tuple[int, ...]
    positions: tuple[int, ...]

    @classmethod
    def of(cls, counts: np.ndarray, levels: int | None, first: int, shape: tuple, positions: tuple) -> "CodeStatistics":
        """What was counted; with `levels=None`, as far out as codes were seen."""
        counts = np.asarray(counts, np.int64)
        if levels is None:
            seen = np.flatnonzero(counts.any(axis=0))
            counts, first = counts[:, seen[0] : seen[-1] + 1], first + int(seen[0])
        return cls(counts, first, levels is not None, tuple(shape), tuple(positions))

    def probabilities(self) -> np.ndarray:
        """Of each symbol, by unit, float64 `[units, symbols]`; where codes are not bounded, the last is the escape.

        Half a count is added to each (Krichevsky & Trofimov 1981, doi 10.1109/TIT.1981.1056331): what was never seen
        remains possible.
        """
        counts = self.counts if self.bounded else np.pad(self.counts, [(0, 0), (0, 1)])
        return (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Writes the file of a run."""
        with replacing(path / FILE) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **self._asdict())

    @classmethod
    def load(cls, path: Path) -> "CodeStatistics":
        """Reads the file of a run.

        Raises:
            OSError: there is none.
            ValueError: it is damaged.
        """
        with np.load(path / FILE, allow_pickle=False) as stored:
            found = {name: stored[name] for name in cls._fields}
        shape, positions = (tuple(map(int, found[name])) for name in ("shape", "positions"))
        return cls(found["counts"], int(found["first"]), bool(found["bounded"]), shape, positions)
