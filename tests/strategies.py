"""Every strategy there is, found in the folders without importing TensorFlow, and what each one should compute.

A new deterministic strategy needs an entry in `ORACLES`, a random one in `OUTCOMES`, a new hyperparameter one in
`HYPERPARAMETERS`; a test says so if it is missing.
"""

import ast
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from conf import compose

ROOT = Path(__file__).parent.parent
CODE = ROOT / "rounding"
CONF = ROOT / "conf" / "rounding"

Curve = Callable[..., tuple[np.ndarray, np.ndarray]]


# What there is


@dataclass(frozen=True)
class Strategy:
    """One YAML of conf/rounding."""

    name: str
    config: dict[str, Any]

    @property
    def function(self) -> str:
        """The function's name: another one's, if the YAML is a named variant."""
        return self.config["_target_"].rpartition(".")[2]

    @property
    def members(self) -> dict[str, "Strategy"]:
        """The strategies among its arguments."""
        nodes = {key: value for key, value in self.config.items() if isinstance(value, dict)}
        return {key: Strategy(key, node) for key, node in nodes.items() if node["_target_"].startswith("rounding.")}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """By name; a dictionary for a schedule."""
        return {k: v for k, v in self.config.items() if not k.startswith("_") and k not in self.members}

    @property
    def random(self) -> bool:
        """Whether the function, or a member's, takes a `seed`, read from its source."""
        tree = ast.parse((CODE / f"{self.function}.py").read_text())
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        arguments = next(node.args.kwonlyargs for node in functions if node.name == self.function)
        return "seed" in [argument.arg for argument in arguments] or any(m.random for m in self.members.values())

    def build(self, seed: Any = (1, 2), step: Any = 25, progress: Any = 0.25, **overrides: Any) -> Callable:
        """The callable `u -> code`, with the YAML's hyperparameters but for the overridden ones, at a step of 100."""
        import hydra

        from rounding import bind

        strategy = hydra.utils.instantiate(self.config)
        return functools.partial(bind(strategy, step=step, progress=progress, seed=seed), **overrides)


def load(name: str) -> Strategy:
    return Strategy(name, OmegaConf.to_container(compose([f"rounding={name}", "total_steps=100"]).rounding))


STRATEGIES = [load(path.stem) for path in sorted(CONF.glob("*.yaml"))]
DETERMINISTIC = [strategy for strategy in STRATEGIES if not strategy.random]
RANDOM = [strategy for strategy in STRATEGIES if strategy.random]
BY_NAME = {strategy.name: strategy for strategy in STRATEGIES}


# Which hyperparameters there are


@dataclass(frozen=True)
class Values:
    """Values at the edges of a hyperparameter's range, and values outside."""

    extreme: tuple
    refused: tuple


NO_NUMBER = (None, True, "abc", float("nan"), float("inf"), -float("inf"), 10**400)
NO_COUNT = (*NO_NUMBER, 0, -1, 2.5, 3.0)
SMALL_TO_LARGE = (5e-324, 1e-30, 1e30, 1e300)

HYPERPARAMETERS = {
    "alpha": Values((0, *SMALL_TO_LARGE), (*NO_NUMBER, -1, -1e-30)),
    "delta": Values((0, *SMALL_TO_LARGE), (*NO_NUMBER, -1, -1e-30)),
    "temperature": Values(SMALL_TO_LARGE, (*NO_NUMBER, 0, -1)),
    "hard": Values((False, True), (None, 0, 1, "true")),
    "slope": Values(SMALL_TO_LARGE, (*NO_NUMBER, 0, -1)),
    "steepness": Values(SMALL_TO_LARGE, (*NO_NUMBER, 0, -1)),
    "at": Values((5e-324, 1 - 1e-16), (*NO_NUMBER, 0, 1, -0.1, 1.5)),
    "threshold": Values((5e-324, 1 - 1e-16), (*NO_NUMBER, 0, 1, -0.1, 1.5)),
    "center": Values((5e-324, 1 - 1e-16), (*NO_NUMBER, 0, 1, -0.1, 1.5)),
    "iterations": Values((1000,), (*NO_COUNT, 10_001)),
    "terms": Values((1000,), (*NO_COUNT, 10_001)),
    "power": Values((999, 10**300 + 1), (*NO_COUNT, 1, 2, 4, -3)),
    "window": Values(("none", "fejer"), (None, True, 1, "", "hann")),
}


def extremes(strategy: Strategy) -> list[dict[str, Any]]:
    """The YAML's values and the edges of the ranges, in all combinations."""
    choices = {
        name: [*([] if isinstance(value, dict) else [value]), *HYPERPARAMETERS[name].extreme]
        for name, value in strategy.hyperparameters.items()
        if name in HYPERPARAMETERS
    }
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


# What they should compute: closed forms in float64, value and slope


def staircase(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.rint(u), np.ones_like(u)


def flat_staircase(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.rint(u), np.zeros_like(u)


def line(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return u, np.ones_like(u)


def sine(u: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    slope = np.ones_like(u)
    for _ in range(iterations):
        slope = slope * (1 - np.cos(2 * np.pi * u))
        u = u - np.sin(2 * np.pi * u) / (2 * np.pi)
    return u, slope


def ramp(u: np.ndarray, threshold: float, slope: float) -> tuple[np.ndarray, np.ndarray]:
    climb = (u - np.floor(u) - threshold) * slope
    return np.floor(u) + np.clip(climb, 0, 1), np.where((climb > 0) & (climb < 1), slope, 0.0)


def fourier(u: np.ndarray, terms: int, window: str) -> tuple[np.ndarray, np.ndarray]:
    k = np.arange(1, terms + 1)
    weight = (-1.0) ** k * (1 - k / (terms + 1) if window == "fejer" else 1)
    d = np.expand_dims(u - np.rint(u), -1)
    coarse = np.rint(d * 2**40) / 2**40  # so that k times it is exact, and whole turns can go exactly
    phase = 2 * np.pi * (k * coarse - np.rint(k * coarse) + k * (d - coarse))
    return (
        u + np.sum(weight * np.sin(phase) / (np.pi * k), -1),
        1 + 2 * np.sum(weight * np.cos(phase), -1),
    )


def soft_round(u: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    if alpha == 0:
        return line(u)
    x = alpha * (u - np.floor(u) - 0.5)
    value = np.floor(u) + 0.5 + np.tanh(x) / (2 * np.tanh(alpha / 2))
    return value, alpha / (2 * np.tanh(alpha / 2) * np.cosh(x) ** 2)


def steep_sigmoid(u: np.ndarray, slope: float, center: float) -> tuple[np.ndarray, np.ndarray]:
    x = slope * (u - np.floor(u) - center)
    e = np.exp(-np.abs(x))
    return np.floor(u) + np.where(x < 0, e, 1) / (1 + e), slope * e / (1 + e) ** 2


def cubic(u: np.ndarray, power: int) -> tuple[np.ndarray, np.ndarray]:
    r = np.rint(u)
    return r + (u - r) ** power, power * (u - r) ** (power - 1)


def cosine(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    m = np.floor(u)
    return m + 0.5 - np.cos(np.pi * (u - m)) / 2, np.pi / 2 * np.sin(np.pi * (u - m))


def scaled_sigmoid(u: np.ndarray, steepness: float) -> tuple[np.ndarray, np.ndarray]:
    m = np.floor(u)
    a = (np.exp(steepness / 2) + 1) / (np.exp(steepness / 2) - 1)
    s = 1 / (1 + np.exp(-steepness * (u - m - 0.5)))
    return m + a * s + (1 - a) / 2, a * steepness * s * (1 - s)


def soft_gradient(u: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    return np.rint(u), soft_round(u, alpha)[1]


def ewgs(u: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    return np.rint(u), 1 + delta * (u - np.rint(u))


def soft_round_inverse(y: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    if alpha == 0:
        return line(y)
    x = 2 * np.tanh(alpha / 2) * (y - np.floor(y) - 0.5)
    return np.floor(y) + 0.5 + np.arctanh(x) / alpha, 2 * np.tanh(alpha / 2) / (alpha * (1 - x * x))


@dataclass(frozen=True)
class Oracle:
    """A closed form, and hyperparameters to compare it at besides those of the YAML.

    The slope is that for an upstream gradient of 1, and for any other if the gradient is `linear` in it.
    """

    curve: Curve
    cases: tuple[dict[str, Any], ...] = ()
    linear: bool = True


ORACLES = {
    "identity": Oracle(line),
    "hard": Oracle(flat_staircase),
    "straight_through": Oracle(staircase),
    "custom_gradient": Oracle(staircase),
    "sine": Oracle(sine, ({"iterations": 2}, {"iterations": 4})),
    "ramp": Oracle(ramp, ({"threshold": 0.25, "slope": 2}, {"threshold": 0.1, "slope": 0.5})),
    "fourier": Oracle(
        fourier,
        (
            {"terms": 5, "window": "none"},
            {"terms": 1, "window": "fejer"},
            {"terms": 8, "window": "none"},
            {"terms": 50, "window": "fejer"},
            {"terms": 1000, "window": "none"},
        ),
    ),
    "soft_round": Oracle(soft_round, ({"alpha": 0}, {"alpha": 1e-3}, {"alpha": 0.5}, {"alpha": 20.0})),
    "steep_sigmoid": Oracle(steep_sigmoid, ({"slope": 4, "center": 0.3}, {"slope": 0.1, "center": 0.9})),
    "cubic": Oracle(cubic, ({"power": 5}, {"power": 21})),
    "cosine": Oracle(cosine),
    "scaled_sigmoid": Oracle(scaled_sigmoid, ({"steepness": 0.5}, {"steepness": 2}, {"steepness": 60.0})),
    "soft_gradient": Oracle(soft_gradient, ({"alpha": 0}, {"alpha": 0.5}, {"alpha": 20.0})),
    "ewgs": Oracle(ewgs, ({"delta": 0}, {"delta": 0.1}, {"delta": 2}), linear=False),
}

# What random ones should compute: value and slope in float64 at the noise's `p`-quantile, p ~ U(0, 1). The
# code's distribution, its mean and that of the slope all follow from it.


def noisy_line(u: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return u + p - 0.5, np.ones_like(p)


def noisy_before(u: np.ndarray, p: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray]:
    return noisy_line(u, p)


def noisy_soft_round(u: np.ndarray, p: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    y, rise = soft_round(u, alpha)
    value, slope = soft_round_inverse(y + p - 1, alpha)  # p - 1 = noise - 1/2
    return value + 0.5, rise * slope


def dithered(u: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.rint(u + p - 0.5) - (p - 0.5), np.ones_like(u * p)


def stochastic(u: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.floor(u + p), np.ones_like(u * p)


def reinmax(u: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    m, code = np.floor(u), np.floor(u + p)
    return code, 0.5 / np.where(code > m, u - m, 1 - (u - m))


def relaxed_bernoulli(
    u: np.ndarray, p: np.ndarray, logit: Curve, temperature: float, hard: bool
) -> tuple[np.ndarray, np.ndarray]:
    t = np.clip(u - np.floor(u), 2.0**-24, 1 - 2.0**-24)
    value, slope = logit(t)
    x = (value + np.log(p / (1 - p))) / temperature
    slope = np.where(t == u - np.floor(u), slope / (4 * temperature * np.cosh(x / 2) ** 2), 0)
    return np.floor(u) + (x > 0 if hard else 1 / (1 + np.exp(-x))), slope


def gumbel_sigmoid(u: np.ndarray, p: np.ndarray, temperature: float, hard: bool) -> tuple[np.ndarray, np.ndarray]:
    def logit(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.log(t / (1 - t)), 1 / (t * (1 - t))

    return relaxed_bernoulli(u, p, logit, temperature, hard)


def sga(u: np.ndarray, p: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    def logit(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope = 1 / (1 - t**2) + 1 / (1 - (1 - t) ** 2)
        return (np.arctanh(t) - np.arctanh(1 - t)) / temperature, slope / temperature

    return relaxed_bernoulli(u, p, logit, temperature, hard=False)


OUTCOMES = {
    "uniform_noise": Oracle(noisy_line),
    "switch": Oracle(noisy_before),
    "noisy_soft_round": Oracle(noisy_soft_round, ({"alpha": 0}, {"alpha": 1.0}, {"alpha": 7.0})),
    "dithered": Oracle(dithered),
    "stochastic": Oracle(stochastic),
    "reinmax": Oracle(reinmax),
    "gumbel_sigmoid": Oracle(
        gumbel_sigmoid, ({"temperature": 2.0, "hard": False}, {"temperature": 0.25, "hard": True})
    ),
    "sga": Oracle(sga, ({"temperature": 0.2}, {"temperature": 2.0})),
}


def cases(strategy: Strategy) -> list[dict[str, Any]]:
    """Hyperparameters to compare a strategy with its closed form at."""
    own = strategy.hyperparameters
    plain = all(isinstance(value, (int, float, str)) for value in own.values())
    table = OUTCOMES if strategy.random else ORACLES
    shared = table[strategy.function].cases if strategy.name == strategy.function else ()
    return [*([own] if plain else []), *shared]


def expected(strategy: Strategy, u: np.ndarray, **hyperparameters: Any) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope in float64, at the hyperparameters that the dtype of `u` can hold."""
    narrow = np.float64 if u.dtype == np.float64 else np.float32
    floats = {key: float(narrow(value)) for key, value in hyperparameters.items() if isinstance(value, float)}
    return ORACLES[strategy.function].curve(u.astype(np.float64), **{**hyperparameters, **floats})
