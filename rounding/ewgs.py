"""The straight-through estimator, with each element's gradient scaled by how far it has to go."""

from collections.abc import Callable

import tensorflow as tf

from ._cell import computing_dtype, non_negative, saturated


def ewgs(u: tf.Tensor, *, delta: float = 1.0) -> tf.Tensor:
    """Rounds, and scales the gradient up for a `u` that is far from the code it is sent to.

        forward     r
        backward    dy * (1 + delta sign(dy) (u - r))

    Descent moves `u` against `dy`. Where dy > 0 it goes down, and the code changes at r - 1/2, which is
    1/2 + (u - r) away; where dy < 0 it goes up, to r + 1/2, which is 1/2 - (u - r) away. So the factor is
    1 + delta (distance - 1/2), between 1 - delta/2 and 1 + delta/2.

    Args:
        u: a float tensor of any shape.
        delta: >= 0, per code (per unit range, as the paper has it, it would be levels - 1 times as large). 0 is
            `straight_through`; above 2 an element next to its goal is sent back.

    Raises:
        ValueError: for `delta` out of range.

    Lee et al. 2021, arXiv 2104.00903, who hold delta fixed or take it from the Hessian's trace.
    """
    u = tf.convert_to_tensor(u)
    delta, wide = non_negative("delta", delta, u), computing_dtype(u)

    @tf.custom_gradient
    def rounded(u: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        r = tf.round(u)
        ahead = delta * tf.cast(u - r, wide)

        def backward(dy: tf.Tensor) -> tf.Tensor:
            dy = tf.cast(dy, wide)
            return saturated(dy * (1 + tf.sign(dy) * ahead), u.dtype)

        return r, backward

    return rounded(u)
