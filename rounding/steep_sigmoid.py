"""A sigmoid per cell, so steep that it is all but a step."""

import tensorflow as tf

from ._cell import TimesSlope, fraction, per_cell, positive


def steep_sigmoid(u: tf.Tensor, *, slope: float = 1000.0, center: float = 0.5) -> tf.Tensor:
    """Climbs from one integer to the next along a sigmoid.

        forward     m + s
        backward    dy * slope s (1 - s)    where s = sigmoid(slope (t - center))

    It is quoted as `e / (e + 1)` with `e = exp(slope (t - center))`, which overflows: with the defaults it is
    NaN in float32 from t = 0.589 on.

    Args:
        u: a float tensor of any shape.
        slope: > 0, in the exponent (the curve's own is slope / 4 at the center). Large: a step, with a
            gradient only within some 10 / slope of it; small: flat at m + 1/2, with jumps at the integers.
        center: in (0, 1), where the step stands; 1/2 for rounding to the nearest integer.

    Raises:
        ValueError: for a hyperparameter out of range.

    Quoted at https://stackoverflow.com/questions/46596636.
    """
    slope = positive("slope", slope, u)
    center = fraction("center", center, u)

    def curve(t: tf.Tensor) -> tuple[tf.Tensor, TimesSlope]:
        s = tf.sigmoid(slope * (t - center))
        return s, lambda dy: slope * tf.raw_ops.SigmoidGrad(y=s, dy=dy)

    return per_cell(curve, u)
