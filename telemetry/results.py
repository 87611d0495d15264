"""The end of a run: the test, `result.json`, example reconstructions, and the summary on the console."""

import logging
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from coding.statistics import CodeStatistics
from conf.checks import ConfigError
from data.pipeline import Splits, evaluation_batches
from models.autoencoder import Autoencoder, Trainer
from telemetry.metrics import CodeCounts
from telemetry.records import replacing
from telemetry.run import RunDirectory

log = logging.getLogger(__name__)

MEASURES = {
    "test_psnr": "PSNR",
    "test_si_sdr": "SI-SDR",
    "test_log_spectral_distance": "log-spectral distance",
}


def conclude(run: RunDirectory, trainer: Trainer, splits: Splits, result: Mapping[str, Any]) -> dict[str, Any]:
    """Saves the last weights, tests the best ones unless the run diverged, and writes `result.json`.

    Args:
        run: claimed.
        trainer: at the end of its training.
        splits: its examples.
        result: what training had to say: `status`, `epochs`, `seconds`, ...

    Returns:
        The content of `result.json`.
    """
    autoencoder = trainer.autoencoder
    with replacing(run.path / "last.weights.h5") as draft:
        autoencoder.save_weights(draft)
    result = {
        **result,
        "parameters": sum(math.prod(weight.shape) for weight in autoencoder.trainable_variables),
        "versions": versions(),
    }
    if result["status"] == "finished":
        load_best(run.path, autoencoder)
        result |= measure(trainer, splits)
        save_reconstructions(run.path, trainer, splits.test)
        code_statistics(trainer, splits.train).save(run.path)
        log.info(summary(run.path, result, trainer.media.files))
    run.write_result(result)
    return result


def load_best(path: Path, autoencoder: Autoencoder) -> None:
    """Loads the best weights of the run in a folder.

    Raises:
        ConfigError: they cannot be read.
    """
    weights = path / "best.weights.h5"
    try:
        autoencoder.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{weights} cannot be read: resume=false moves that run aside and starts over") from error


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    python = platform.python_version()
    return {"python": python, "tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__}


def measure(trainer: Trainer, splits: Splits) -> dict[str, float]:
    """Hard and soft errors on validation, and the hard error, bits and code usage on test."""
    batch_size = trainer.batch_size
    validation, test = (trainer.measure(evaluation_batches(x, batch_size)) for x in (splits.validation, splits.test))
    return {
        "val_loss": validation["loss"],
        "val_soft_loss": validation["soft_loss"],
        "val_gap": validation["gap"],
        "test_loss": test["loss"],
        **{f"test_{name}": test[name] for name in trainer.media.measures},
        "bits_per_example": test["bits"],
        **trainer.media.rates(test["bits"]),
        "code_usage": test["code_usage"],
    }


def save_reconstructions(path: Path, trainer: Trainer, test: tf.Tensor) -> None:
    """Stores the first test examples `x`, their `x_hat` and their integer `code`, to look at and as arrays."""
    x = test[: trainer.media.examples]
    code = tf.round(trainer.autoencoder.encode(x))
    x_hat = trainer.autoencoder.decode(code).numpy()
    np.savez_compressed(path / "reconstructions.npz", x=x, x_hat=x_hat, code=tf.cast(code, tf.int32))
    trainer.media.save(path, x.numpy(), x_hat)


def code_statistics(trainer: Trainer, train: tf.Tensor) -> CodeStatistics:
    """Counts the integer codes of the training set: what an entropy coder will know of them."""
    autoencoder = trainer.autoencoder
    latent, counts = autoencoder.latent, CodeCounts(autoencoder.latent.units, autoencoder.latent.levels)
    count = tf.function(lambda x: counts.update_state(tf.round(autoencoder.encode(x))), autograph=False)
    for x in evaluation_batches(train, trainer.batch_size):
        count(x)
    positions = autoencoder.encoder.output_shape[1:-1]
    return CodeStatistics.of(counts.counts.numpy(), latent.levels, counts.first, train.shape[1:], positions)


def summary(path: Path, result: Mapping[str, Any], files: str) -> str:
    """A few lines for the console: how good, how many bits, where things are, what to type next."""
    measured = ", ".join(f"{title} {result[key]:.2f} dB" for key, title in MEASURES.items() if key in result)
    rate = f", {result['bits_per_second']:,.0f} a second" if "bits_per_second" in result else ""
    speed = f", {result['examples_per_second']:,.0f} examples/s" if "examples_per_second" in result else ""
    runs = Path(result["config"]["runs"]).expanduser()
    board = runs if path.is_relative_to(runs) else path
    return "\n".join(
        [
            f"hard test loss    {result['test_loss']:.5f} ({measured})",
            f"hard val loss     {result['val_loss']:.5f} (soft {result['val_soft_loss']:.5f}, "
            f"gap {result['val_gap']:+.5f}), best at epoch {result['best_epoch']}",
            f"bits per example  {result['bits_per_example']:,.1f}{rate} ({result['code_usage']:.0%} of the codes used)",
            f"time              {result['seconds']:.0f} s{speed}",
            f"files             {path}  ({files})",
            f"see it            tensorboard --logdir {board}",
        ]
    )
