"""The configuration: YAML files by group, what values they may take (`checks.py`), and `compose` for scripts."""

import math
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, flag_override

# ${units_of_bits:64,16}: how many integers of 16 levels 64 bits are worth; ${levels_of_bits:64,16}: how many levels 16
# integers may have within 64 bits.
OmegaConf.register_new_resolver(
    "units_of_bits", lambda bits, levels: max(1, round(bits / math.log2(levels))), replace=True
)
OmegaConf.register_new_resolver("levels_of_bits", lambda bits, units: int(2 ** (bits / units)), replace=True)


def _threads_each() -> int | None:
    launcher = HydraConfig.get().launcher
    if workers := OmegaConf.select(launcher, "n_jobs"):
        import joblib

        return max(1, joblib.cpu_count() // joblib.effective_n_jobs(workers))
    if ray := OmegaConf.select(launcher, "ray"):
        return int(OmegaConf.select(ray, "remote.num_cpus", default=1))
    return OmegaConf.select(launcher, "cpus_per_task")


# What hydra/launcher=... gives each of the runs that go on at once; null where it runs one after the other.
OmegaConf.register_new_resolver("threads_each", _threads_each, replace=True)

GROUPS = ("data", "model", "latent", "rounding", "loss")


def compose(overrides: Sequence[str] = (), config_name: str = "config") -> DictConfig:
    """The configuration that `python train.py <overrides>` would get, resolved: for tests and scripts.

    Args:
        overrides: the command line's `key=value` words.
        config_name: another program's, to get what that one would.

    Raises:
        hydra.errors.HydraException: an override names no key or no member of a group.
    """
    if GlobalHydra.instance().is_initialized():  # within a Hydra application
        return _compose(overrides, config_name)
    with hydra.initialize_config_dir(str(Path(__file__).parent), version_base="1.3"):
        return _compose(overrides, config_name)


def _compose(overrides: Sequence[str], config_name: str) -> DictConfig:
    cfg = hydra.compose(config_name, list(overrides), return_hydra_config=True)
    singleton = HydraConfig.instance()
    outer, singleton.cfg = singleton.cfg, None
    try:
        singleton.set_config(cfg)
        with flag_override(cfg, ["struct", "readonly"], False):
            del cfg["hydra"]
        OmegaConf.resolve(cfg)
    finally:
        singleton.cfg = outer
    return cfg
