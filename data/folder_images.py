"""Your own PNG and JPEG files.

    python train.py data=folder_images data.path=/my/pngs

The files are read at every start, by the next runs of a sweep if they have changed, and nothing is stored, so that a
changed folder is never read stale.
"""

import logging
import os
from collections.abc import Sequence

import tensorflow as tf

from data import folder, images
from data.files import IMAGES
from data.in_memory import whole
from data.memory import check_fits
from data.pipeline import DataError, Splits

log = logging.getLogger(__name__)

PNG_COLOUR_TYPE_BYTE = 25
"""Where a PNG file says whether it has colour and alpha."""


def load(path: str | None, image_size: Sequence[int]) -> Splits:
    """All PNG and JPEG files under `path`, 80 % / 10 % / 10 %, as grey images of one size.

    Which file goes where depends on its name relative to `path` (on the name's hash): adding files moves few others.

    Args:
        path: a folder, searched with all its subfolders; hidden files are left out.
        image_size: `[height, width]` in pixels that all images are stretched to.

    Returns:
        Images `[*image_size, 1]` in [0, 1]; colour becomes luma, an alpha channel is laid over white (a palette's
        transparent colour is taken for opaque).

    Raises:
        DataError: no such folder, fewer than 3 images in it, or one that cannot be decoded.
    """
    size = images.size_of(image_size)
    files = folder.find(path, IMAGES, "PNG or JPEG", "data=folder_images data.path=/my/pngs")
    log.info("reading %d images under %s", len(files), path)
    parts = {key: _decode_all(part, size) for key, part in folder.split(files).items()}
    return Splits(**{key: tf.data.Dataset.from_tensor_slices(part) for key, part in parts.items()})


def _decode_all(files: list[str], size: tuple[int, int]) -> tf.Tensor:
    """All images, `[files, *size, 1]`, decoded in parallel."""
    check_fits(len(files) * size[0] * size[1], f"{len(files)} images", "give fewer files, or a smaller data.image_size")
    dataset = tf.data.Dataset.from_tensor_slices(files).map(
        lambda file: decode(tf.io.read_file(file), size), num_parallel_calls=os.cpu_count()
    )
    try:
        return whole(dataset)
    except tf.errors.OpError as error:
        raise DataError(_broken(files, size)) from error


def decode(contents: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """The bytes of a JPEG or a PNG (whatever its name says) as `x`, `[*size, 1]`; PNGs keep up to 16 bits."""
    colour_type = tf.strings.substr(contents, PNG_COLOUR_TYPE_BYTE, 1)
    # asked for 4 channels where the file has no alpha, TF fills in a wrong one for PNGs of 1, 2 and 4 bits
    has_alpha = (colour_type == b"\x04") | (colour_type == b"\x06")
    return tf.case(
        [
            (tf.io.is_jpeg(contents), lambda: images.prepare(tf.io.decode_jpeg(contents, channels=3), size)),
            (has_alpha, lambda: images.prepare(tf.io.decode_png(contents, channels=4, dtype=tf.uint16), size)),
        ],
        default=lambda: images.prepare(tf.io.decode_png(contents, channels=3, dtype=tf.uint16), size),
    )


def _broken(files: list[str], size: tuple[int, int]) -> str:
    """Names the first file that fails: tf.data's own message doesn't."""
    for file in files:
        try:
            decode(tf.io.read_file(file), size)
        except tf.errors.OpError as error:
            return f"{file} cannot be read as PNG or JPEG ({error.message.splitlines()[0][:200]}): repair or remove it"
    return "the images could not be read together, though each can be read alone: is there enough memory?"
