"""Examples on disk, for sets that are larger than `cache_gb`: written once, then read batch by batch."""

import os
import tempfile
from collections.abc import Iterable

import numpy as np
import tensorflow as tf


class OnDisk:
    """Examples that are sliced and gathered as those of a tensor `[examples, ...]` are, and stay on disk meanwhile.

    They stand one after the other, as raw numbers, in a temporary file without a name, which ends with the process,
    however that ends. It is read, not mapped: what the system keeps of it in memory, it can do without.

    Args:
        batches: all examples, in their order, `[batch, ...]` each.

    Raises:
        OSError: the disk is full, or there is no folder for temporary files.
    """

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (it is open as long as this object)
        count = 0
        try:
            for batch in batches:
                self.file.write(np.ascontiguousarray(batch).data)
                count += len(batch)
            self.file.flush()
        except OSError:
            self.file.raw.close()  # or Python, as it closes the file, tries once more and complains
            raise
        self.shape = tf.TensorShape([count, *batch.shape[1:]])
        self.dtype = tf.as_dtype(batch.dtype)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, part: slice) -> tf.Tensor:
        """The examples from one number to another, `[examples, ...]`."""
        start = 0 if part.start is None else part.start
        return self.gather(tf.range(start, tf.minimum(part.stop, len(self))))

    def gather(self, indices: tf.Tensor) -> tf.Tensor:
        """The examples of these numbers, in this order, `[indices, ...]`."""
        examples = tf.numpy_function(self._read, [indices], self.dtype, stateful=False)
        return tf.ensure_shape(examples, [*indices.shape, *self.shape[1:]])

    def _read(self, indices: np.ndarray) -> np.ndarray:
        size = self.shape[1:].num_elements() * self.dtype.size
        stored = b"".join(os.pread(self.file.fileno(), size, size * int(index)) for index in indices)
        return np.frombuffer(stored, self.dtype.as_numpy_dtype).reshape(-1, *self.shape[1:])
