"""What random strategies share: noise that is a pure function of a seed, and the relaxed throw of a coin."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ._cell import clip, computing_dtype, per_cell, positive

Logit = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def uniform(u: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Noise from U(-1/2, 1/2), of the shape of `u` and in the dtype that it is computed in.

    The same seed and shape give the same noise, bit for bit: run eagerly, in a graph or compiled by XLA. (Drawn
    as floats it would not be: TensorFlow keeps the low bits of Philox's integers, XLA the high ones,
    https://github.com/tensorflow/tensorflow/issues/117644. So the integers are drawn, on which both agree.)
    The values are the odd multiples of 2^-25 (float64: 2^-54), evenly on both sides of 0: neither it nor the
    bounds are hit.

    Args:
        u: a float tensor of any shape.
        seed: an int32 tensor of shape [2].
    """
    dtype = computing_dtype(u)
    integer, bits = (tf.int64, 53) if dtype == tf.float64 else (tf.int32, 24)
    drawn = tf.random.stateless_uniform(tf.shape(u), seed, minval=None, maxval=None, dtype=integer, alg="philox")
    place = tf.bitwise.right_shift(drawn, integer.size * 8 - bits)  # from -2^(bits - 1) on, below 2^(bits - 1)
    return (tf.cast(place, dtype) + 0.5) * 2.0**-bits


def logistic(u: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Noise from the logistic distribution, the logit of U(0, 1): finite, since the bounds are not drawn."""
    return 2 * tf.atanh(2 * uniform(u, seed))  # the logit of 1/2 + noise, without rounding that sum


def relaxed_bernoulli(u: tf.Tensor, logit: Logit, temperature: Any, seed: tf.Tensor, hard: bool = False) -> tf.Tensor:
    """A coin per cell, thrown softly: between `m` and `m + 1`, ever closer to one of them as it gets colder.

        forward     m + s, or with `hard`: m + (1 where s > 1/2, otherwise 0)
        backward    dy * s (1 - s) slope / temperature      where s = sigmoid((value + noise) / temperature)
                                                                  value, slope = logit(t, temperature)

    A logit is infinite at integers, so `t` is clipped to [2^-24, 1 - 2^-24], in every dtype: what is next to 0
    and 1 in float32. Where it was clipped the gradient is 0, as that of the clipped function is.

    Args:
        u: a float tensor of any shape.
        logit: maps `t` and the temperature to the logit of `m + 1`, and the logit's slope.
        temperature: > 0.
        seed: an int32 tensor of shape [2].
        hard: whether the code is the sample itself.
    """
    u = tf.convert_to_tensor(u)
    # Colder than 1e-15 it could not be told from a step, but 1 / temperature^2 would be infinite.
    temperature = tf.maximum(positive("temperature", temperature, u), 1e-15)
    noise = logistic(u, seed)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inside = clip(t, 2.0**-24, 1 - 2.0**-24)
        value, slope = logit(inside, temperature)
        x = (value + noise) / temperature
        s = tf.sigmoid(x)
        slope = s * tf.sigmoid(-x) * slope / temperature  # 1 - s would round
        code = tf.cast(x > 0, t.dtype) if hard else s
        return code, tf.where(t == inside, slope, 0)

    return per_cell(curve, u)
