"""How TensorFlow starts: quietly, with so many threads, and the same way each time."""

import contextlib
import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator

from conf.checks import ConfigError

NOT_FOR_KERAS = ("matplotlib", "pandas", "sklearn")
"""What Keras imports if it finds it, for parts of it that nobody here uses: a third of the seconds that it takes."""


def start(threads: int | None, jit_compile: bool, precision: str = "float32") -> None:
    """Imports TensorFlow, makes its operations deterministic, and drops what earlier runs in this process left behind.

    Args:
        jit_compile: whether XLA will compile the steps; Keras refuses that together with op determinism.
        threads: for operations; None leaves the choice to TensorFlow (one per core).
        precision: Keras's dtype policy, of the layers that are made from now on.

    Raises:
        ConfigError: TensorFlow runs already, with another number of threads; or no temporary file can be made.
    """
    try:
        tempfile.gettempdir()  # TensorFlow does the same, as one imports it
    except OSError as error:
        raise ConfigError(f"{error.strerror}: make room there, or set TMPDIR to another folder") from error
    with _quiet_start(), _hidden(NOT_FOR_KERAS), _without_collections():
        import keras
        import tensorflow as tf
        from tensorflow.python.framework import config

        tf.config.list_physical_devices()
    try:
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        raise ConfigError(f"threads={threads}: TensorFlow runs already, with another number of threads") from None
    logging.getLogger("absl").setLevel(logging.ERROR)  # TensorFlow and TFDS report there each file they open
    logging.getLogger("tensorflow").addFilter(_is_of_use)
    keras.backend.clear_session()
    keras.config.set_dtype_policy(precision)
    _forget_graphs()
    if jit_compile:
        config.disable_op_determinism()  # which has no public name, and which an earlier run may have enabled
    else:
        tf.config.experimental.enable_op_determinism()


def _is_of_use(record: logging.LogRecord) -> bool:
    # TensorFlow takes the same method of another run's object for the same function, traced again. AutoGraph needs
    # temporary files, and tells each function that it has none for; ours do without it. tf.distribute tells in a dozen
    # lines which devices it found, and how they talk.
    of_none = "triggered tf.function retracing|AutoGraph could not transform|not using nccl allreduce"
    return record.levelno >= logging.WARNING and not re.search(of_none, record.getMessage())


def _forget_graphs() -> None:
    # TensorFlow registers the gradient of each tf.custom_gradient in each graph, Keras's optimizers' among them, for
    # good, and with it keeps the graph: some 30 MB a run.
    from tensorflow.python.framework import ops

    registry = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]


@contextlib.contextmanager
def _hidden(names: Iterable[str]) -> Iterator[None]:
    hidden = {name: None for name in names if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None means that there is no such module
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    # Half a million objects that stay for good: collections while they are made, and later ones that look at them
    # again, find nothing and take a fifth of the import's time.
    if "tensorflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    # TensorFlow's libraries write lines about oneDNN and missing GPUs to file descriptor 2 before they read
    # TF_CPP_MIN_LOG_LEVEL. Set that variable to 0 to see them.
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1"):
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with unheard():
        yield


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Drops what libraries write to file descriptor 2, where nothing else keeps them quiet."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
