"""A steep straight line from one integer to the next."""

import tensorflow as tf

from ._cell import clip, fraction, per_cell, positive


def ramp(u: tf.Tensor, *, threshold: float = 0.499, slope: float = 10000.0) -> tf.Tensor:
    """Climbs from `m` to `m + 1` in a straight line that starts at `threshold`.

        forward     m + min(max((t - threshold) slope, 0), 1)
        backward    dy * slope    where 0 < (t - threshold) slope < 1, otherwise 0

    With the quoted defaults one `u` in 10,000 gets any gradient, and that one is multiplied by 10,000.

    Args:
        u: a float tensor of any shape.
        threshold: in (0, 1), where the climb starts. Near 0 everything rounds up, near 1 down.
        slope: > 0, of the climb, which is 1 / slope wide. Large: a step without any gradient. Below
            1 / (1 - threshold) the top is not reached within the cell, and the rest is a jump at the integer.

    Raises:
        ValueError: for a hyperparameter out of range.

    Quoted at https://stackoverflow.com/questions/46596636.
    """
    threshold = fraction("threshold", threshold, u)
    slope = positive("slope", slope, u)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        climb = (t - threshold) * slope
        climbing = tf.cast((climb > 0) & (climb < 1), t.dtype)
        return clip(climb, 0, 1), slope * climbing

    return per_cell(curve, u)
