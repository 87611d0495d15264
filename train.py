"""Trains an autoencoder whose latent is bits or integers.

python train.py                                                 straight-through bits on 5,000 MNIST digits
python train.py rounding=soft_round rounding.alpha=7 seed=1     another strategy, another setting
python train.py latent=integer latent.units=8 latent.levels=4   integers instead of bits
python train.py data=espeak_digits                              audio: spoken digits, made on the spot
python train.py -m 'rounding=glob(*)' 'seed=range(5)'           a sweep; the same command again goes on with it
python train.py rounding=soft_round evaluate=true               a stored run, measured again
tensorboard --logdir runs                                       curves, pictures, gradient flow
"""

import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from conf.checks import ConfigError, check
from conf.errors import RunFailed, one_sentence
from models.build import build
from telemetry.run import RunDirectory
from telemetry.trouble import enough_memory

if TYPE_CHECKING:  # TensorFlow takes seconds to import; a mistake on the command line is answered before that
    from keras.callbacks import Callback

    from data.pipeline import Splits
    from models.autoencoder import Trainer

log = logging.getLogger("train")


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> float:
    """One run; returns the hard validation loss, for sweepers. In a sweep, `telemetry.sweep` sees to what it raises."""
    single = HydraConfig.get().mode == RunMode.RUN
    with one_sentence() if single else contextlib.nullcontext():
        if not single and cfg.distribute == "multi_worker":
            raise ConfigError("distribute=multi_worker is for single runs: all workers would write the sweep's files")
        result = train(cfg)
        if result.get("reason"):
            raise RunFailed(result["reason"])
        return result["val_loss"]


def train(cfg: DictConfig) -> dict[str, Any]:
    """Trains, or goes on with, or just measures (`evaluate=true`) the run that the configuration describes.

    Args:
        cfg: as `conf.compose` gives it.

    Returns:
        The content of the run's `result.json`; where it just measures, what it measured, by tag.

    Raises:
        ConfigError: the configuration, or what it points to, is wrong; nothing has been written.
    """
    config = check(cfg)
    run = RunDirectory(config)
    run.refuse_other_files()
    if config["resume"] or config["evaluate"]:
        run.refuse_other_run()
    if config["evaluate"]:
        return evaluate(cfg, run)
    if result := run.finished():
        log.info("%s is finished: hard test loss %.5f", run.path, result["test_loss"])
        return result
    with run.of_this_process() as run:
        with enough_memory():
            splits, trainer = build(cfg)
        if not config["resume"]:
            run.move_aside()
        with run.claim(), trainer.replicas.together(run.path / "checkpoint.npz"):
            return fit(run, trainer, splits)


def fit(
    run: RunDirectory, trainer: "Trainer", splits: "Splits", callbacks: "Sequence[Callback]" = ()
) -> dict[str, Any]:
    """Trains from the run's checkpoint, or from the start, to the last epoch; then tests.

    Args:
        run: claimed.
        trainer: freshly built.
        splits: its examples.
        callbacks: told of the training after those that record it.

    Returns:
        The content of `result.json`, which is written last.
    """
    from models.training import train_epochs
    from telemetry.callbacks import Metrics, Progress, Quality
    from telemetry.checkpoint import Checkpoint
    from telemetry.results import conclude
    from telemetry.tensorboard import TensorBoard

    config, epochs = run.config, run.config["epochs"]
    checkpoint = Checkpoint(run.path, trainer, config["checkpoint_steps"])
    done, further = checkpoint.epoch, checkpoint.step - checkpoint.epoch * trainer.steps
    where = f"epoch {done}" + (f" and {further} of {trainer.steps} steps" if further else "")
    shared = f", in {count} replicas" if (count := trainer.replicas.count) > 1 else ""
    log.info("%s %s%s", f"going on after {where} with" if checkpoint.step else "training", run.path, shared)
    metrics = Metrics(run.path / "metrics.csv", done)
    progress = Progress(epochs, trainer.steps, trainer.batch_size)
    quality = Quality(trainer, splits.train[: trainer.media.examples], epochs)
    board = TensorBoard(run.path, config, trainer, splits.validation, done)
    train_epochs(trainer, splits, epochs, checkpoint, [quality, metrics, board, progress, *callbacks])
    result = {**checkpoint.result(), **progress.result(), **metrics.result(), "config": config}
    return conclude(run, trainer, splits, result)


def evaluate(cfg: DictConfig, run: RunDirectory) -> dict[str, Any]:
    """Measures the best weights of a stored run once more; writes nothing."""
    weights = run.path / "best.weights.h5"
    if not weights.exists():
        raise ConfigError(f"{run.path} holds no trained weights: run the same command without evaluate=true first")
    # What an annealed strategy is like depends on how long the stored run was.
    cfg = cfg.copy()
    cfg.epochs = run.stored()["epochs"]
    with enough_memory():
        splits, trainer = build(cfg)
        from telemetry.results import load_best, measure

        load_best(run.path, trainer.autoencoder)
        measured = measure(trainer, splits)
    log.info("\n".join(f"{key:28}{value:.5f}" for key, value in measured.items()))
    return measured


if __name__ == "__main__":
    with one_sentence():
        main()
