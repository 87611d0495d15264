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
shape [2]. What it returns is a function of `u` and `seed` alone, so there is no state to store.

The folder needs only TensorFlow: copy it into another project, under any name, and it works. To add a
strategy, add `<name>.py` here and `conf/rounding/<name>.yaml`; tests and gallery find it by themselves.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def takes_seed(strategy: Callable[..., Any]) -> bool:
    """Whether a strategy is random: it then wants a `seed`, int32 `[2]`, another one at each step."""
    function = strategy.func if isinstance(strategy, functools.partial) else strategy
    return "seed" in inspect.signature(function).parameters
