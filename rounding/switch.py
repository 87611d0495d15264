"""One strategy first, another one after."""

from collections.abc import Callable

import tensorflow as tf

from ._cell import fraction, require


def switch(
    u: tf.Tensor,
    *,
    before: Callable[[tf.Tensor], tf.Tensor],
    after: Callable[[tf.Tensor], tf.Tensor],
    at: float = 0.75,
    progress: tf.Tensor,
) -> tf.Tensor:
    """Is `before` until a share of training is done, then `after`.

        forward     before(u)           where progress < at, otherwise after(u)
        backward    that of before      where progress < at, otherwise that of after

    Which one it is follows from `progress` alone, so a resumed training needs no memory of it.

    Args:
        u: a float tensor of any shape.
        before: a strategy `u -> code`, its hyperparameters and seed bound.
        after: another one. With `uniform_noise` before and `hard` after it is soft-then-hard: what the encoder
            learnt from noise stays, and the decoder gets used to integers.
        at: in (0, 1), the share of training after which they change places.
        progress: a scalar in [0, 1], the share of training done.

    Raises:
        ValueError: for `before` or `after` that is no strategy, or `at` out of range.

    Soft-then-hard: Guo et al. 2021, arXiv 2104.05168.
    """
    for name, member in (("before", before), ("after", after)):
        require(name, member, "a strategy, a function u -> code", callable(member))
    share = fraction("at", at, u)
    u = tf.convert_to_tensor(u)
    return tf.cond(tf.cast(progress, share.dtype) < share, lambda: before(u), lambda: after(u))
