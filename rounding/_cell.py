"""What the strategies share: the reduction of `u` to one cell, and the checks of hyperparameters.

Rounding repeats itself from integer to integer, so a strategy is a curve over one cell and its slope.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import tensorflow as tf

TimesSlope = Callable[[tf.Tensor], tf.Tensor]
"""From `dy` to `dy * slope`: instead of a slope, where it takes fewer operations, each a pass over the memory."""

Curve = Callable[[tf.Tensor], tuple[tf.Tensor, Any]]
"""From the place within a cell to the value there, and a slope or a `TimesSlope`."""


def per_cell(curve: Curve, u: tf.Tensor, origin: Callable[[tf.Tensor], tf.Tensor] = tf.floor) -> tf.Tensor:
    """Repeats a curve in every cell, with the slope it states as its gradient.

        forward     origin(u) + value
        backward    dy * slope              where value, slope = curve(u - origin(u))

    Half precision is computed in float32. A gradient beyond the range of `u`'s dtype becomes the largest
    number of that dtype: infinity would turn into NaN at the next product with 0.

    Args:
        curve: maps the place within the cell, in the computing dtype, to the value there and the slope.
        u: a float tensor of any shape.
        origin: `tf.floor` for cells [m, m + 1), `tf.round` for cells centred on integers.
    """
    u = tf.convert_to_tensor(u)

    @tf.custom_gradient
    def repeated(u: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        wide = tf.cast(u, computing_dtype(u))
        base = origin(wide)
        value, slope = curve(wide - base)

        def backward(dy: tf.Tensor) -> tf.Tensor:
            if slope is straight:
                return dy  # within its range as it is, and two operations less
            dy = tf.cast(dy, wide.dtype)
            return saturated(slope(dy) if callable(slope) else dy * slope, u.dtype)

        return tf.cast(base + value, u.dtype), backward

    return repeated(u)


def straight(dy: tf.Tensor) -> tf.Tensor:
    """The slope 1 as a `TimesSlope`: straight through."""
    return dy


def saturated(gradient: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """A gradient in another dtype; beyond its range, the largest number it has."""
    return tf.cast(clip(gradient, dtype.min, dtype.max), dtype)


def clip(x: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """`tf.clip_by_value`, in one pass over the memory instead of two."""
    low, high = tf.constant(low, x.dtype), tf.constant(high, x.dtype)
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=low, clip_value_max=high)


def computing_dtype(u: tf.Tensor) -> tf.DType:
    """float64 for float64, otherwise float32."""
    return tf.float64 if tf.as_dtype(u.dtype) == tf.float64 else tf.float32


def sin_pi(x: tf.Tensor) -> tf.Tensor:
    """`sin(pi x)` for -1 <= x <= 1, exactly 0 at both ends, where `tf.sin(math.pi * x)` is not."""
    return tf.sign(x) * tf.sin(math.pi * tf.minimum(tf.abs(x), 1 - tf.abs(x)))


def repeat(times: int, step: Callable[..., tuple], *state: tf.Tensor) -> tuple:
    """`state = step(k, *state)` for k = 1 to `times`.

    A few steps are unrolled, so that they fuse; many become a loop, so that the graph stays small.
    """
    if times <= 8:
        for k in range(1, times + 1):
            state = step(k, *state)
        return state

    def unfinished(k: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return k <= times

    def advance(k: tf.Tensor, *state: tf.Tensor) -> tuple:
        return k + 1, *step(k, *state)

    return tf.while_loop(unfinished, advance, (1, *state))[1:]


# Hyperparameters. A number is checked, and so is an eager tensor; one in a graph, which an annealing schedule gives
# anew each step, cannot be, so training checks the schedule's ends. All come back as a scalar in the dtype that `u`
# is computed in.


def non_negative(name: str, value: Any, u: tf.Tensor) -> tf.Tensor:
    """A hyperparameter >= 0 as a scalar tensor; ValueError for a number out of range."""
    number = known(value)
    require(name, number, "a finite number >= 0", tf.is_tensor(number) or (is_number(number) and number >= 0))
    return scalar(value, u)


def positive(name: str, value: Any, u: tf.Tensor) -> tf.Tensor:
    """A hyperparameter > 0 as a scalar tensor; ValueError for a number out of range."""
    number = known(value)
    require(name, number, "a finite number > 0", tf.is_tensor(number) or (is_number(number) and number > 0))
    return scalar(value, u)


def fraction(name: str, value: Any, u: tf.Tensor) -> tf.Tensor:
    """A hyperparameter between 0 and 1 as a scalar tensor; ValueError for a number out of range."""
    number = known(value)
    require(name, number, "a number in (0, 1)", tf.is_tensor(number) or (is_number(number) and 0 < number < 1))
    return scalar(value, u)


def known(value: Any) -> Any:
    """An eager tensor's number; other values as they are."""
    return float(value) if tf.is_tensor(value) and tf.executing_eagerly() else value


def scalar(value: Any, u: tf.Tensor) -> tf.Tensor:
    """A number or a scalar tensor in the computing dtype; beyond its range, the largest number it has."""
    dtype = computing_dtype(u)
    value = tf.cast(value, dtype) if tf.is_tensor(value) else tf.constant(float(value), dtype)
    return tf.clip_by_value(value, dtype.min, dtype.max)


def require(name: str, value: Any, range_: str, holds: bool) -> None:
    """Refuses a user's value in one sentence that names the argument, its range and the value."""
    if not holds:
        raise ValueError(f"{name} must be {range_}, got {known(value)!r}")


def is_number(value: Any) -> bool:
    """True for finite real numbers; `True` is none, nor is an integer beyond every float."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


MOST_TIMES = 10_000
"""Of what is repeated: a million take minutes a step, and look like a program that hangs."""


def times(name: str, value: Any) -> None:
    """Refuses what is no number of times to repeat something."""
    require(name, value, f"an integer from 1 to {MOST_TIMES}", is_count(value) and value <= MOST_TIMES)


def is_count(value: Any) -> bool:
    """True for integers >= 1; 3.0 is none."""
    return isinstance(value, Integral) and is_number(value) and int(value) >= 1
