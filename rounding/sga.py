"""Stochastic Gumbel annealing: a relaxed coin that is loaded towards the nearer integer."""

import tensorflow as tf

from ._noise import relaxed_bernoulli


def sga(u: tf.Tensor, *, temperature: float = 0.5, seed: tf.Tensor) -> tf.Tensor:
    """Goes up or down, the nearer the likelier, but not all the way; both depend on one temperature.

        forward     m + s
        backward    dy * s (1 - s) (1 / (1 - t^2) + 1 / (1 - (1 - t)^2)) / temperature^2

    with s = sigmoid(((atanh(t) - atanh(1 - t)) / temperature + noise) / temperature): the Gumbel softmax of the
    logits -atanh(t) / temperature for `m` and -atanh(1 - t) / temperature for `m + 1`, whose two noises differ
    by a logistic one. `t` is clipped to [2^-24, 1 - 2^-24]; where it was, as at integers, the gradient is 0.

    Args:
        u: a float tensor of any shape.
        temperature: > 0, to be annealed from 1/2 towards 0 in the paper. Near 0 `tf.round`, without noise and
            with a gradient at the halves only; large m + 1/2, with hardly any noise or gradient left.
        seed: an int32 tensor of shape [2], another one each step; the same one gives the same noise.

    Raises:
        ValueError: for `temperature` out of range.

    Yang et al. 2020, arXiv 2006.04240, who refine the codes of a trained model by it.
    """

    def logit(t: tf.Tensor, temperature: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        up, down = t * (1 + t), (1 - t) * (2 - t)  # atanh(t) - atanh(1 - t) = log(up / down) / 2
        slope = 1 / ((1 - t) * (1 + t)) + 1 / (t * (2 - t))
        return tf.math.log(up / down) / (2 * temperature), slope / temperature

    return relaxed_bernoulli(u, logit, temperature, seed)
