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
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from conf.checks import ConfigError, check
from conf.errors import RunFailed, explained, one_sentence
from conf.targets import instantiate
from telemetry.run import RunDirectory
from telemetry.trouble import enough_memory

if TYPE_CHECKING:  # TensorFlow takes seconds to import; a mistake on the command line is answered before that
    import tensorflow as tf
    from keras.callbacks import Callback
    from keras.optimizers import Optimizer

    from data.on_disk import OnDisk
    from data.pipeline import Splits
    from models.autoencoder import Autoencoder, Trainer
    from models.replicas import Replicas
    from rounding import Strategy

log = logging.getLogger("train")

COPIES_OF_WEIGHTS = 4
"""Themselves, their gradient, and what AdamW keeps of it."""


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


def build(cfg: DictConfig) -> "tuple[Splits, Trainer]":
    """The data, and an untrained autoencoder with its optimizer.

    Raises:
        ConfigError: a strategy, the data, the model or the optimizer refuses its settings.
    """
    from telemetry import session

    session.start(cfg.threads, cfg.jit_compile, cfg.precision)
    import keras

    from models.replicas import replicas
    from telemetry.gradient_flow import passes_gradient

    devices = replicas(cfg.distribute, cfg.batch_size)  # before TensorFlow's first operation
    with explained(f"rounding={cfg.choices.rounding}"):
        if not passes_gradient(make_rounding(cfg.rounding, 1)):  # now, so that it refuses its hyperparameters
            log.warning("rounding=%s lets (almost) no gradient through: only the decoder trains", cfg.choices.rounding)
    splits = read_data(cfg)
    refuse_giants(cfg, splits.train.shape[1:])
    keras.utils.set_random_seed(cfg.seed)  # here, since preparing data draws from the same generators
    return splits, make_trainer(cfg, splits.train, devices)


def read_data(cfg: DictConfig) -> "Splits":
    """The examples, or those of the process's last run, if they are the same.

    Raises:
        ConfigError: they cannot be had, or do not make a batch.
    """
    from data import folder
    from data.pipeline import last_read

    with explained(f"data={cfg.choices.data}"):
        name = OmegaConf.to_yaml(cfg.data, resolve=True) + folder.state(cfg.data.get("path"))
        splits = last_read.read(name, lambda: instantiate(cfg.data), cfg.cache_gb)
        if (count := len(splits.train)) < cfg.batch_size:
            raise ValueError(f"has {count} training examples: batch_size must be {count} or less, got {cfg.batch_size}")
    return splits


def make_trainer(cfg: DictConfig, examples: "tf.Tensor | OnDisk", devices: "Replicas") -> "Trainer":
    """An untrained autoencoder, on some devices, with its optimizer: compiled.

    Raises:
        ConfigError: the latent, the model, the loss or the optimizer refuses its settings.
    """
    import keras

    from models.autoencoder import Trainer
    from telemetry.media import media_of

    shape, steps = examples.shape[1:], len(examples) // cfg.batch_size
    with devices.scope():
        autoencoder = make_autoencoder(cfg, shape, cfg.total_steps or cfg.epochs * steps)
    with explained(f"loss={cfg.choices.loss}"):
        loss = instantiate(cfg.loss)
        loss(examples[:1], examples[:1])  # so that it refuses its arguments now
    trainer = Trainer(autoencoder, loss, media_of(cfg.data, shape), cfg.batch_size, steps, cfg.seed, devices)
    with devices.scope():
        with explained("optimizer"):
            optimizer = make_optimizer(cfg.optimizer, cfg.epochs * steps)
        if cfg.precision == "mixed_float16":  # whose gradients would vanish
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(autoencoder.trainable_variables)
    trainer.compile(optimizer=optimizer, jit_compile=cfg.jit_compile)
    return trainer


def refuse_giants(cfg: DictConfig, shape: Sequence[int]) -> None:
    """Counts what a model will have, before it has it.

    Raises:
        ConfigError: more than fits into the memory.
    """
    import keras

    from data.memory import check_fits
    from telemetry.metrics import LARGEST_CODE

    with explained(f"model={cfg.choices.model}"):
        with keras.StatelessScope(initialize_variables=False):  # of variables, shapes only
            parts = instantiate(cfg.model)(shape, cfg.latent.units)
        weights = sum(math.prod(weight.shape) for part in parts for weight in part.weights)
        outputs = sum(math.prod(layer.output.shape[1:]) for part in parts for layer in part.layers)
        levels = cfg.latent.get("levels", 2) or 2 * LARGEST_CODE + 1
        codes = 2 * cfg.latent.units * levels  # which are counted, a batch's and all together
        needed = COPIES_OF_WEIGHTS * weights + cfg.batch_size * outputs + codes
        check_fits(needed, "its training", "make its layers, latent.units or batch_size smaller")


def make_autoencoder(cfg: DictConfig, shape: Sequence[int | None], total_steps: int) -> "Autoencoder":
    """An untrained autoencoder for examples of a shape.

    Raises:
        ConfigError: the latent or the model refuses its settings.
    """
    from models.autoencoder import Autoencoder

    with explained(f"latent={cfg.choices.latent}"):
        latent = instantiate(cfg.latent)
    with explained(f"model={cfg.choices.model}"):
        encoder, decoder = instantiate(cfg.model)(shape, latent.units)
    with explained(f"rounding={cfg.choices.rounding}"):
        rounding = make_rounding(cfg.rounding, total_steps)
    return Autoencoder(encoder, latent, rounding, decoder, total_steps)


def make_rounding(cfg: DictConfig, total_steps: int) -> "Strategy":
    """The strategy; where a schedule among its hyperparameters leaves its `..._steps` open (null), it takes all.

    Raises:
        ValueError: a hyperparameter is out of its range, at the beginning or at the end of training.
    """
    import tensorflow as tf

    from rounding import bind

    def of_strategy(node: Any) -> Any:
        return {key: prepared(value) for key, value in node.items()}

    def prepared(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if str(value.get("_target_")).startswith("rounding."):
            return of_strategy(value)
        return {key: of_schedule(key, item) for key, item in value.items()}

    def of_schedule(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [of_schedule(key, item) for item in value]
        if isinstance(value, str) and key not in ("_target_", "name"):
            raise ValueError(f"{key} of a schedule must be a number, got {value!r}")
        if type(value) is int:  # from integers, Keras's schedules compute integers
            return float(value)
        return total_steps if value is None and key.endswith("_steps") else value

    strategy = instantiate(of_strategy(OmegaConf.to_container(cfg, resolve=True)))
    for step in (0, total_steps):
        for progress in (0.0, 1.0):
            bind(strategy, step=step, progress=progress, seed=tf.zeros(2, tf.int32))(tf.zeros(1))
    return strategy


def make_optimizer(cfg: DictConfig, steps: int) -> "Optimizer":
    """A Keras optimizer whose learning rate falls along a cosine to 0 within so many steps."""
    import keras

    from models.optimizer import AdamW

    schedule = keras.optimizers.schedules.CosineDecay(cfg.learning_rate, steps)
    optimizer = instantiate(cfg, learning_rate=schedule)
    if type(optimizer) is keras.optimizers.AdamW:
        optimizer = AdamW.from_config(optimizer.get_config())
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])  # or every unit drifts to u = 1/2
    return optimizer


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
