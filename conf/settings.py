"""What a configuration sets: in which keys two of them differ, and one from its groups' defaults."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import ListConfig, OmegaConf

from conf import GROUPS, compose

# The loss follows from the data, so that it is only named where it is another one.
NAMED_IN_PATHS = ("data", "model", "latent", "rounding")

# How a run is done, not what it is: these may differ when a run is gone on with.
INCIDENTAL = (
    "epochs",
    "runs",
    "output_dir",
    "resume",
    "checkpoint_steps",
    "evaluate",
    "threads",
    "cache_gb",
    "distribute",
    "choices",
    "data.data_dir",
)


def settings(
    config: Mapping[str, Any], incidental: Sequence[str] = INCIDENTAL, named: Sequence[str] = NAMED_IN_PATHS
) -> str:
    """What a configuration sets other than the named groups' members do by themselves, as `key=value,key=value`.

    Args:
        config: resolved.
        incidental: keys to leave out, beside the seed.
        named: groups whose members are told elsewhere.
    """
    own = _defaults(*(f"{group}={config['choices'][group]}" for group in named))["choices"]
    other = {group: name for group, name in config["choices"].items() if group in GROUPS and name != own[group]}
    defaults = _defaults(*(f"{group}={config['choices'][group]}" for group in (*named, *other)))
    differing = difference(defaults, config, [*incidental, "seed"])
    values = {**other}
    for key, (_, ours) in differing.items():  # ours before what is only theirs: where both are, ours counts
        if key.endswith("._target_"):
            key, ours = key.removesuffix("._target_"), str(ours).rpartition(".")[2]
        values.setdefault(key, ours)
    return ",".join(f"{key}={shown(value)}" for key, value in values.items())


def difference(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], incidental: Sequence[str] = INCIDENTAL
) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two configurations differ, each with both values (None where it is missing)."""
    flat_theirs, flat_ours = map(_flat, (theirs, ours))
    return {
        key: (flat_theirs.get(key), flat_ours.get(key))
        for key in {**flat_ours, **flat_theirs}
        if flat_theirs.get(key) != flat_ours.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in incidental)
    }


@functools.cache
def _defaults(*choices: str) -> Any:
    return OmegaConf.to_container(compose(choices))


def shown(value: Any) -> str:
    """A value as the command line takes it, lists as `1-2-3`."""
    if isinstance(value, list | ListConfig):
        return "-".join(map(shown, value))
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, Mapping):
        return {prefix: config}
    return {k: v for name, node in config.items() for k, v in _flat(node, f"{prefix}.{name}".lstrip(".")).items()}
