"""What a configuration may call: `_target_` can name any function there is, and a run may come from anybody."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf

from conf import GROUPS

# Class names only: the rest of that module, `deserialize` for one, is not to be had.
OF_KERAS = re.compile(r"keras\.optimizers\.(schedules\.)?[A-Z]\w*")


def instantiate(node: Any, **arguments: Any) -> Any:
    """`hydra.utils.instantiate`, of what `refuse_foreign` lets pass.

    Raises:
        ValueError: a `_target_` in it is none of ours.
    """
    refuse_foreign(node)
    return hydra.utils.instantiate(node, **arguments)


def refuse_foreign(node: Any) -> None:
    """Makes sure that a part of a configuration calls nothing but what our groups' YAML files or Keras's optimizers do.

    Raises:
        ValueError: a `_target_`, however deep, is another one; or there is none on top.
    """
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig | ListConfig) else node
    if not isinstance(values, Mapping) or "_target_" not in values:
        raise ValueError("_target_ is missing: it names what to call")
    for target in _targets(values):
        if not (isinstance(target, str) and (target in ours() or OF_KERAS.fullmatch(target))):
            raise ValueError(
                f"_target_={target!r} is not called: only what conf/*/*.yaml name, keras.optimizers.<Class> and "
                "keras.optimizers.schedules.<Class> are"
            )


@functools.cache
def ours() -> frozenset[str]:
    """Every `_target_` in the groups' YAML files."""
    files = [file for group in GROUPS for file in (Path(__file__).parent / group).glob("*.yaml")]
    found = [re.findall(r"^\s*_target_: *([\w.]+)", file.read_text(), re.MULTILINE) for file in files]
    return frozenset(target for targets in found for target in targets)


def _targets(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from (item for key, item in value.items() if key == "_target_")
        yield from (target for item in value.values() for target in _targets(item))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from (target for item in value for target in _targets(item))
