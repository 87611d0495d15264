"""A finished run, ready to code with."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from coding import statistics
from coding.statistics import CodeStatistics
from conf.checks import ConfigError, check
from telemetry.run import RunDirectory
from train import make_autoencoder

if TYPE_CHECKING:  # TensorFlow takes seconds to import; a mistake on the command line is answered before that
    import tensorflow as tf

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

    def model(self, shape: Sequence[int | None] | None = None) -> "Autoencoder":
        """The autoencoder with its best weights; imports TensorFlow.

        Args:
            shape: of the examples; None for those that it was trained with, `[None, 1]` for audio of any length.

        Raises:
            ConfigError: the weights cannot be read.
        """
        from telemetry import session

        session.start(self.config.threads, False, self.config.precision)
        from telemetry.results import load_best

        autoencoder = make_autoencoder(self.config, shape or self.statistics.shape, 1)
        load_best(self.path, autoencoder)
        return autoencoder


class Codec:
    """Encoder and decoder as compiled functions.

    Args:
        autoencoder: trained.
    """

    def __init__(self, autoencoder: "Autoencoder") -> None:
        import tensorflow as tf

        self.autoencoder = autoencoder
        x = tf.TensorSpec([None, *autoencoder.encoder.input_shape[1:]], tf.float32)
        code = tf.TensorSpec([None, *autoencoder.encoder.output_shape[1:]], tf.int32)
        self.encode = tf.function(self._encode, input_signature=[x], autograph=False)
        self.decode = tf.function(self._decode, input_signature=[code], autograph=False)

    def _encode(self, x: "tf.Tensor") -> "tf.Tensor":
        """`x` to its integer code, int32."""
        import tensorflow as tf

        return tf.cast(tf.round(self.autoencoder.encode(x)), tf.int32)

    def _decode(self, code: "tf.Tensor") -> "tf.Tensor":
        """An int32 code to `x_hat`."""
        import tensorflow as tf

        return self.autoencoder.decode(tf.cast(code, tf.float32))


def load(path: Path) -> Stored:
    """Reads what is small of a run: all but the weights.

    Raises:
        ConfigError: there is no finished run, or one without code statistics.
    """
    if not (path / "config.yaml").is_file():
        raise ConfigError(f"run={path} is no run's folder: give one that python train.py has written")
    run = RunDirectory(_config_of(path))
    if not (result := run.finished()):
        raise ConfigError(f"run={path} is not finished: go on with its training first")
    try:
        found = CodeStatistics.load(path)
    except FileNotFoundError:
        raise ConfigError(f"run={path} has no {statistics.FILE}, being of an older version: train it again") from None
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path / statistics.FILE} is damaged: train the run again with resume=false") from error
    digest = hashlib.sha256()
    for name in ("best.weights.h5", statistics.FILE):
        digest.update((path / name).read_bytes())
    return Stored(path, OmegaConf.create(run.config), result, found, digest.digest()[:8])


def _config_of(path: Path) -> dict[str, Any]:
    """The run's configuration, as if it had been trained here: folders may have been moved since then."""
    stored: Any = RunDirectory({"output_dir": path}).stored()
    ours = {"output_dir": str(path), "resume": True, "evaluate": False, "distribute": "none"}
    data = {key: value for key, value in stored["data"].items() if key not in ("data_dir", "path")}
    return check(OmegaConf.create({"precision": "float32", "cache_gb": 4, **stored, **ours, "data": data}))
