"""How TensorFlow starts: quietly, with so many threads, and the same way each time."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from conf.checks import ConfigError


def start(threads: int | None, jit_compile: bool) -> None:
    """Imports TensorFlow and makes its operations deterministic.

    Args:
        jit_compile: whether XLA will compile the steps; Keras refuses that together with op determinism.
        threads: for operations; None leaves the choice to TensorFlow (one per core).

    Raises:
        ConfigError: TensorFlow runs already, with another number of threads.
    """
    with _quiet_start():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()
    try:
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        raise ConfigError(f"threads={threads}: TensorFlow runs already, with another number of threads") from None
    logging.getLogger("absl").setLevel(logging.ERROR)  # TensorFlow and TFDS report there each file they open
    keras.backend.clear_session()
    if not jit_compile:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    # TensorFlow's libraries write lines about oneDNN and missing GPUs to file descriptor 2 before they read
    # TF_CPP_MIN_LOG_LEVEL. Set that variable to 0 to see them.
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1"):
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
