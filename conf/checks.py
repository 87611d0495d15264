"""What the configuration's values may be, and one sentence for each mistake. No TensorFlow: it answers at once."""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf import GROUPS
from conf.targets import refuse_foreign
from conf.workers import refuse_bad_tf_config


class ConfigError(ValueError):
    """A mistake in the configuration: its message names the key, the value, what is allowed and what to do."""


class Rule(NamedTuple):
    """What a key may hold."""

    holds: Callable[[Any], bool]
    allowed: str


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(least: int, most: int = 2**31 - 1) -> Rule:
    return Rule(lambda v: _is_integer(v) and least <= v <= most, f"an integer from {least} to {most}")


def _is_text(value: Any) -> bool:
    # What the command line has of bytes that are no text, no file takes.
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


def or_null(rule: Rule) -> Rule:
    """What a rule allows, or null."""
    return Rule(lambda v: v is None or rule.holds(v), f"null or {rule.allowed}")


def _list_of(rule: Rule) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, list) and len(value) > 0 and all(rule.holds(item) for item in value)

    return Rule(holds, f"a list of one or more, each {rule.allowed}")


def one_of(*words: str) -> Rule:
    """These words."""
    return Rule(lambda v: isinstance(v, str) and v in words, f"one of {', '.join(words)}")


def _is_number(value: Any) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and abs(value) < math.inf


POSITIVE = Rule(lambda v: _is_number(v) and v > 0, "a finite number above 0")
NOT_NEGATIVE = Rule(lambda v: _is_number(v) and v >= 0, "a finite number, 0 or more")
FLAG = Rule(lambda v: isinstance(v, bool), "true or false")
TEXT = Rule(lambda v: _is_text(v), "a text that is not empty")
RATE = _integer(1, 384_000)
MEMBER = Rule(lambda v: isinstance(v, dict), "a strategy, named as in rounding@rounding.before=soft_round")
SECTION = Rule(lambda v: isinstance(v, dict), "a section of keys")
FOLDER = Rule(lambda v: isinstance(v, str) and os.path.isdir(os.path.expanduser(v)), "an existing folder")

RULES = {
    "seed": _integer(0),
    "epochs": _integer(1),
    "batch_size": _integer(1),
    "optimizer.learning_rate": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.global_clipnorm": or_null(POSITIVE),
    "total_steps": or_null(_integer(1)),
    "runs": TEXT,
    "output_dir": or_null(TEXT),
    "resume": FLAG,
    "checkpoint_steps": or_null(_integer(1)),
    "evaluate": FLAG,
    "threads": or_null(_integer(1, 1024)),
    "cache_gb": NOT_NEGATIVE,
    "jit_compile": FLAG,
    "precision": one_of("float32", "mixed_float16", "mixed_bfloat16"),
    "distribute": one_of("none", "mirrored", "multi_worker"),
    "data.name": or_null(TEXT),
    "data.data_dir": or_null(FOLDER),
    "data.path": or_null(TEXT),
    "data.sample_rate_hz": RATE,
    "data.source_rate_hz": or_null(RATE),
    "data.clip_seconds": POSITIVE,
    "data.peak_normalize": FLAG,
    "model.widths": _list_of(_integer(1)),
    "model.channels": _list_of(_integer(1)),
    "model.width": _integer(1),
    "model.strides": _list_of(_integer(1)),
    "model.dilations": _list_of(_integer(1, 10_000)),
    "latent.units": _integer(1),
    "latent.levels": or_null(_integer(2, 65_536)),
    "latent.scale": POSITIVE,
    "latent.normalize": FLAG,
    "rounding.before": MEMBER,
    "rounding.after": MEMBER,
    "loss.quiet": POSITIVE,
    "loss.weight": NOT_NEGATIVE,
    "loss.frame_lengths": _list_of(_integer(2, 65_536)),
}


REQUIRED = {key for key in RULES if "." not in key} | {"optimizer.learning_rate"}
"""The program itself reads these; of others, the strategy, the model and so on say that they are missing."""


def check(cfg: DictConfig) -> dict[str, Any]:
    """Checks every value that has a rule; strategies, data and models check the rest as they are made.

    Returns:
        The resolved configuration as plain dictionaries and lists.

    Raises:
        ConfigError: with one sentence about the first mistake.
    """
    values = _resolved(cfg)
    for group in GROUPS:
        choices = values.get("choices")
        if not isinstance(choices, dict) or not isinstance(choices.get(group), str) or not values.get(group):
            raise ConfigError(f"{group} needs exactly one member: {', '.join(members(group))}")
        if choices[group] not in members(group):
            raise ConfigError(
                f"{group}={_shown(choices[group])} does not exist: choose from {', '.join(members(group))}"
            )
    for key, rule in RULES.items():
        _check_key(values, key, rule, key in REQUIRED)
    for name in (*GROUPS, "optimizer"):
        _check_targets(name, values[name])
    _check_distribute(values)
    return values


def check_all(cfg: DictConfig, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Checks the keys of another program's configuration, all of which it needs; returns and raises as `check` does."""
    values = _resolved(cfg)
    for key, rule in rules.items():
        _check_key(values, key, rule, required=True)
    return values


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    try:
        values: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from error
    return values


def _check_distribute(values: dict[str, Any]) -> None:
    choice = f"distribute={values['distribute']}"
    if values["distribute"] != "none" and values["jit_compile"]:
        raise ConfigError(f"{choice}: XLA would compile the step of one device only: leave out jit_compile=true")
    if values["distribute"] != "multi_worker":
        return
    if values["evaluate"]:
        raise ConfigError(f"{choice}: evaluate=true is for one machine: leave out distribute, or say mirrored")
    try:
        refuse_bad_tf_config()
    except ValueError as error:
        raise ConfigError(f"{choice} {error}") from error


def _check_targets(name: str, node: Any) -> None:
    try:
        refuse_foreign(node)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def _check_key(values: dict[str, Any], key: str, rule: Rule, required: bool) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            raise ConfigError(f"{parent} must be a section of keys, got {_shown(values.get(parent))}")
        values = values[parent]
    if name not in values:
        if required:
            raise ConfigError(f"{key} is missing: it must be {rule.allowed}")
        return
    if not rule.holds(values[name]):
        raise ConfigError(f"{key} must be {rule.allowed}, got {_shown(values[name])}")


def members(group: str) -> list[str]:
    """What a group offers, by name."""
    return sorted(path.stem for path in (Path(__file__).parent / group).glob("*.yaml"))


PLACE_IN_GRAPH = re.compile(r"Graph execution error|Detected at node|<stack traces|  File |\d+ root error|\s*$")
"""What TensorFlow may tell before what went wrong."""


def first_line(error: Exception) -> str:
    """Of an error's message, or its type's name."""
    lines = (line.strip() for line in str(error).splitlines() if not PLACE_IN_GRAPH.match(line))
    return next(lines, type(error).__name__)


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)[:80]
