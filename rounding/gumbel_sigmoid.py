"""A relaxed coin: a Bernoulli sample of the place within the cell, made smooth."""

import tensorflow as tf

from ._cell import require
from ._noise import relaxed_bernoulli


def gumbel_sigmoid(u: tf.Tensor, *, temperature: float = 0.5, hard: bool = False, seed: tf.Tensor) -> tf.Tensor:
    """Goes up with probability `t`, otherwise down, but not all the way: the binary Concrete distribution.

        forward     m + s, or with `hard`: m + (1 where s > 1/2, otherwise 0)
        backward    dy * s (1 - s) / (temperature t (1 - t))

    with s = sigmoid((logit(t) + noise) / temperature), the noise logistic (the difference of two Gumbels). `t`
    is clipped to [2^-24, 1 - 2^-24], in every dtype; where it was, as at integers, the gradient is 0.

    Args:
        u: a float tensor of any shape.
        temperature: > 0. Near 0 `stochastic` in value, with rare, huge gradients; large m + 1/2, with hardly
            any noise or gradient left.
        hard: whether the code is the sample itself, an integer, that of `stochastic` for the same seed; only
            the gradient is then relaxed (straight-through Gumbel).
        seed: an int32 tensor of shape [2], another one each step; the same one gives the same noise.

    Raises:
        ValueError: for a hyperparameter out of range.

    Maddison et al. 2017, arXiv 1611.00712; Jang et al. 2017, arXiv 1611.01144.
    """
    require("hard", hard, "true or false", isinstance(hard, bool))

    def logit(t: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.math.log(t / (1 - t)), 1 / (t * (1 - t))

    return relaxed_bernoulli(u, logit, temperature, seed, hard)
