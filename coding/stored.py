"""A finished run, ready to code with."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf

from coding import statistics
from coding.statistics import CodeStatistics
from conf.checks import ConfigError, check
from models.build import make_autoencoder
from telemetry.run import RunDirectory

if TYPE_CHECKING:  # TensorFlow takes seconds to import; a mistake on the command line is answered before that
    from models.autoencoder import Autoencoder


class Stored(NamedTuple):
    """What a run's folder holds.

    Attributes:
        path: the folder.
        config: of the run.
        result: what training had to say.
        statistics: of the codes of its training set.
        digest: 8 bytes that tell this model and its statistics from any other.
    """

    path: Path
    config: DictConfig
    result: dict[str, Any]
    statistics: CodeStatistics
    digest: bytes

    @property
    def is_image(self) -> bool:
        """Of images; otherwise, of audio."""
        return len(self.statistics.shape) == 3

    def start(self) -> None:
        """Imports TensorFlow, as training does; before any module that would import it otherwise."""
        from telemetry import session

        session.start(self.config.threads, False, self.config.precision)

    def data(self) -> dict[str, Any]:
        """The configuration of its data set, with the places where that was."""
        return RunDirectory({"output_dir": self.path}).stored()["data"]

    def model(self, shape: Sequence[int | None] | None = None) -> "Autoencoder":
        """The autoencoder with its best weights; imports TensorFlow.

        Args:
            shape: of the examples; None for those that it was trained with, `[None, 1]` for audio of any length.

        Raises:
            ConfigError: the weights cannot be read.
        """
        self.start()
        from telemetry.results import load_best

        autoencoder = make_autoencoder(self.config, shape or self.statistics.shape, 1)
        load_best(self.path, autoencoder)
        return autoencoder


class Codec:
    """Encoder and decoder, compiled, in the batches of evaluation: the last bits of a result depend on the batch.

    Args:
        autoencoder: trained.
        batch_size: to which examples are padded.
    """

    def __init__(self, autoencoder: "Autoencoder", batch_size: int) -> None:
        import tensorflow as tf

        self.batch_size = batch_size

        def encode(x: tf.Tensor) -> tf.Tensor:
            return tf.cast(tf.round(autoencoder.encode(x)), tf.int32)

        def decode(code: tf.Tensor) -> tf.Tensor:
            return autoencoder.decode(tf.cast(code, tf.float32))

        x = tf.TensorSpec([None, *autoencoder.encoder.input_shape[1:]], tf.float32)
        code = tf.TensorSpec([None, *autoencoder.encoder.output_shape[1:]], tf.int32)
        self._encode = tf.function(encode, input_signature=[x], autograph=False)
        self._decode = tf.function(decode, input_signature=[code], autograph=False)

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Examples `[n, ...]` to integer codes, int32 `[n, ..., units]`; n is at most a batch."""
        return self._encode(self._padded(x)).numpy()[: len(x)]

    def decode(self, code: np.ndarray) -> np.ndarray:
        """Integer codes, int32 `[n, ..., units]`, to `x_hat`, float32 `[n, ...]`."""
        return self._decode(self._padded(code)).numpy()[: len(code)]

    def _padded(self, examples: np.ndarray) -> np.ndarray:
        return np.pad(examples, [(0, self.batch_size - len(examples)), *[(0, 0)] * (examples.ndim - 1)])


def load(path: Path) -> Stored:
    """Reads what is small of a run: all but the weights.

    Raises:
        ConfigError: there is no finished run, or one that lacks its code statistics or its weights.
    """
    if not (path / "config.yaml").is_file():
        raise ConfigError(f"run={path} is no run's folder: give one that python train.py has written")
    run = RunDirectory(_config_of(path))
    if not (result := run.finished()):
        raise ConfigError(f"run={path} is not finished: go on with its training first")
    try:
        found = CodeStatistics.load(path)
    except FileNotFoundError:
        raise ConfigError(f"run={path} has no {statistics.FILE}: train it again with resume=false") from None
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path / statistics.FILE} is damaged: train the run again with resume=false") from error
    digest = hashlib.sha256()
    for name in ("best.weights.h5", statistics.FILE):
        try:
            digest.update((path / name).read_bytes())
        except OSError as error:
            raise ConfigError(
                f"{path / name} cannot be read ({error.strerror}): train the run again with resume=false"
            ) from error
    return Stored(path, OmegaConf.create(run.config), result, found, digest.digest()[:8])


def _config_of(path: Path) -> dict[str, Any]:
    """The run's configuration, as if it had been trained here: folders may have been moved since then."""
    stored: Any = RunDirectory({"output_dir": path}).stored()
    ours = {"output_dir": str(path), "resume": True, "evaluate": False, "distribute": "none"}
    data = {key: value for key, value in stored["data"].items() if key not in ("data_dir", "path")}
    return check(OmegaConf.create({**stored, **ours, "data": data}))
