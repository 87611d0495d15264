"""Integer codes as bytes, and back: a range coder under the code statistics of a run.

data = encode(rows, statistics)                    # rows: int32 [n, units]
rows = Decoder(data, n, statistics).read(n)
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from constriction import stream

from coding.statistics import CodeStatistics

BLOCK = 4096
"""Rows that are coded unit by unit, each with one call."""

WORD = np.dtype("<u4")
HALF = 1 << 16


class Coder:
    """What both ways have in common: the units' distributions."""

    def __init__(self, statistics: CodeStatistics) -> None:
        self.first, self.bounded = statistics.first, statistics.bounded
        probabilities = statistics.probabilities()
        self.escape = probabilities.shape[1] - (0 if self.bounded else 1)
        self.models = [stream.model.Categorical(row, perfect=False) for row in probabilities]
        self.half = stream.model.Uniform(HALF)


class Encoder(Coder):
    """Takes rows, gives bytes.

    A code beyond those that the statistics count is an escape, followed by itself in 32 bits; there are none where
    the codes are bounded.
    """

    def __init__(self, statistics: CodeStatistics) -> None:
        super().__init__(statistics)
        self.coder = stream.queue.RangeEncoder()
        self.waiting = np.empty((0, len(self.models)), np.int32)

    def write(self, rows: np.ndarray) -> None:
        """Appends rows `[n, units]` of integer codes.

        Raises:
            ValueError: a code does not exist.
        """
        self.waiting = np.concatenate([self.waiting, rows])
        while len(self.waiting) >= BLOCK:
            self._write_block(self.waiting[:BLOCK])
            self.waiting = self.waiting[BLOCK:]

    def finish(self) -> bytes:
        """All that was written, in whole 32-bit words."""
        self._write_block(self.waiting)
        return self.coder.get_compressed().astype(WORD).tobytes()

    def _write_block(self, rows: np.ndarray) -> None:
        for column, model in zip(rows.T, self.models, strict=True):
            symbols = column - self.first
            far = (symbols < 0) | (symbols >= self.escape)
            if self.bounded and far.any():
                raise ValueError(f"code {column[far][0]} does not exist")
            self.coder.encode(np.where(far, self.escape, symbols).astype(np.int32), model)
            for part in np.divmod(column[far].astype(np.int64) & 0xFFFFFFFF, HALF):
                self.coder.encode(part.astype(np.int32), self.half)


class Decoder(Coder):
    """Takes bytes, gives rows.

    Args:
        data: from `Encoder.finish`.
        count: of the rows that were written.
        statistics: the same as then.
    """

    def __init__(self, data: bytes, count: int, statistics: CodeStatistics) -> None:
        super().__init__(statistics)
        self.coder = stream.queue.RangeDecoder(np.frombuffer(data, WORD).astype(np.uint32))
        self.blocks = self._read_blocks(count)
        self.waiting = np.empty((0, len(self.models)), np.int32)

    def read(self, count: int) -> np.ndarray:
        """The next rows, int32 `[count, units]`."""
        while len(self.waiting) < count:
            self.waiting = np.concatenate([self.waiting, next(self.blocks)])
        rows, self.waiting = self.waiting[:count], self.waiting[count:]
        return rows

    def _read_blocks(self, count: int) -> Iterator[np.ndarray]:
        for start in range(0, count, BLOCK):
            block = min(BLOCK, count - start)
            yield np.stack([self._read_column(block, model) for model in self.models], axis=1)

    def _read_column(self, count: int, model: Any) -> np.ndarray:
        symbols = self.coder.decode(model, count)
        column = symbols + self.first
        if not self.bounded and (far := symbols == self.escape).any():
            high, low = (self.coder.decode(self.half, int(far.sum())).astype(np.int64) for _ in range(2))
            column[far] = (high * HALF + low).astype(np.uint32).view(np.int32)
        return column


def encode(rows: np.ndarray, statistics: CodeStatistics) -> bytes:
    """All rows `[n, units]` at once."""
    encoder = Encoder(statistics)
    encoder.write(rows)
    return encoder.finish()


def ideal_bits(blocks: Iterable[np.ndarray], statistics: CodeStatistics) -> float:
    """The code length of rows under the statistics, -sum log2 p: what no coder can be below on average."""
    bits = -np.log2(statistics.probabilities())
    units, symbols = bits.shape
    total = 0.0
    for rows in blocks:
        cells = rows - statistics.first
        if not statistics.bounded:
            far = (cells < 0) | (cells >= symbols - 1)
            cells, total = np.where(far, symbols - 1, cells), total + 32.0 * int(far.sum())
        total += float(bits[np.arange(units), cells].sum())
    return total
