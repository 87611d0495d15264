"""From stored images to `x`: grey, in [0, 1], of one size."""

from collections.abc import Sequence

import tensorflow as tf

from data.pipeline import DataError

LUMA = (0.299, 0.587, 0.114)
"""How bright red, green and blue look (ITU-R BT.601), as in Pillow's `convert("L")`."""


def size_of(image_size: Sequence[int]) -> tuple[int, int]:
    """`data.image_size` as a tuple `(height, width)` in pixels.

    Raises:
        DataError: it is not two integers of 1 or more.
    """
    size = tuple(image_size) if isinstance(image_size, Sequence) else (image_size,)
    if len(size) != 2 or not all(type(side) is int and side >= 1 for side in size):
        raise DataError(f"data.image_size={list(size)} must be two integers >= 1: [height, width]")
    return size


def prepare(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Turns a stored image into `x`.

    Args:
        image: uint8 or uint16 `[height, width, channels]`; 1 channel is grey, 3 are RGB, 4 are RGBA.
        size: `(height, width)` to stretch to, antialiased; the aspect ratio is not kept.

    Returns:
        float32 `[*size, 1]` in [0, 1].
    """
    x = grey(tf.cast(image, tf.float32) / image.dtype.max)
    if x.shape[:2] != size:
        x = tf.image.resize(x, size, antialias=True)
    return tf.clip_by_value(tf.ensure_shape(x, (*size, 1)), 0.0, 1.0)


def grey(image: tf.Tensor) -> tf.Tensor:
    """The luma of RGB, with RGBA laid over white first, as an image viewer shows it; grey stays as it is.

    Args:
        image: float `[height, width, channels]` in [0, 1] with 1, 3 or 4 channels.

    Returns:
        `[height, width, 1]` in [0, 1].
    """
    channels = image.shape[-1]
    if channels == 1:
        return image
    if channels == 4:
        alpha = image[..., 3:]
        image = image[..., :3] * alpha + (1 - alpha)
    return tf.reduce_sum(image * tf.constant(LUMA, image.dtype), axis=-1, keepdims=True)
