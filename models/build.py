"""From a configuration to what it describes: examples, an untrained autoencoder, and its trainer.

Importing this imports no TensorFlow, and neither does a mistake that `conf.checks` sees.
"""

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from conf.errors import explained
from conf.targets import instantiate

if TYPE_CHECKING:
    import tensorflow as tf
    from keras.optimizers import Optimizer

    from data.on_disk import OnDisk
    from data.pipeline import Splits
    from models.autoencoder import Autoencoder, Trainer
    from models.replicas import Replicas
    from rounding import Strategy

log = logging.getLogger("train")

COPIES_OF_WEIGHTS = 4
"""Themselves, their gradient, and what AdamW keeps of it."""


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
