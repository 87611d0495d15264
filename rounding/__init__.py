"""Strategies: what stands in for `tf.round` during training, because rounding itself has no useful gradient.

A strategy is one function in a file of the same name, `u -> code`, with its hyperparameters as keywords. `u`
is a float tensor of any shape in which neighbouring codes are 1 apart; the result has its shape and dtype.
Each docstring puts the two halves side by side:

    forward     what the decoder sees
    backward    what the encoder gets back

written with `m = floor(u)`, `t = u - m` (the place within the cell, from 0 to 1), `r = round(u)` (ties to
even) and `dy`, the gradient that arrives from the decoder. Values and gradients are finite for every finite
`u`; a gradient too large for the dtype becomes its largest number.

A random strategy has one more keyword, `seed`, which the program passes anew each step: an int32 tensor of
shape [2]. What it returns is a function of `u` and `seed` alone, so there is no state to store. Annealing: a
hyperparameter of type float may be a function of the training step, such as a Keras schedule. `bind` gives a
strategy what it wants of both.

The folder needs only TensorFlow: copy it into another project, under any name, and it works. To add a
strategy, add `<name>.py` here and `conf/rounding/<name>.yaml`; tests and gallery find it by themselves.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

Strategy = Callable[..., tf.Tensor]


def bind(strategy: Strategy, *, step: Any, progress: Any, seed: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """What a strategy is at one training step: `u -> code`.

    Args:
        strategy: a function of this folder, or a `functools.partial` of one, as Hydra makes it; its
            hyperparameters may be schedules, and strategies, as those of `switch` are.
        step: of training, from 0, for schedules.
        progress: the share of training done, in [0, 1], for `switch`.
        seed: an int32 tensor of shape [2], another one each step, for random strategies.
    """
    members = {name: bind(member, step=step, progress=progress, seed=seed) for name, member in _members(strategy)}
    wanted = {name: value for name, value in {"progress": progress, "seed": seed}.items() if _takes(strategy, name)}
    return functools.partial(strategy, **_scheduled(strategy, step), **members, **wanted)


def in_force(strategy: Strategy, *, step: Any, progress: Any) -> dict[str, Any]:
    """What moves in training, at one step: scheduled hyperparameters (a member's as `before.alpha`), `progress`."""
    values = {**_scheduled(strategy, step), **({"progress": progress} if _takes(strategy, "progress") else {})}
    for name, member in _members(strategy):
        moving = in_force(member, step=step, progress=progress)
        values |= {f"{name}.{key}": value for key, value in moving.items() if key != "progress"}
    return values


def takes_seed(strategy: Strategy) -> bool:
    """Whether a strategy, or a member of it, is random."""
    return _takes(strategy, "seed") or any(takes_seed(member) for _, member in _members(strategy))


def _scheduled(strategy: Strategy, step: Any) -> dict[str, Any]:
    return {name: value(step) for name, value in _keywords(strategy).items() if _is_schedule(value)}


def _members(strategy: Strategy) -> list[tuple[str, Strategy]]:
    return [(name, value) for name, value in _keywords(strategy).items() if callable(value) and not _is_schedule(value)]


def _keywords(strategy: Strategy) -> dict[str, Any]:
    return strategy.keywords if isinstance(strategy, functools.partial) else {}


def _is_schedule(value: Any) -> bool:
    return callable(value) and _takes(value, "step")


def _takes(function: Callable[..., Any], name: str) -> bool:
    function = function.func if isinstance(function, functools.partial) else function
    return name in inspect.signature(function).parameters
