"""Any image set of TensorFlow Datasets, as grey images of one size.

python train.py data=mnist
python train.py data=tfds_image data.name=kmnist
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from data import images, prepared
from data.pipeline import DataError, Splits, as_it_is


def load(
    name: str | None,
    splits: Mapping[str, str | None],
    image_size: Sequence[int],
    data_dir: str | None = None,
) -> Splits:
    """A TFDS image set, downloaded and prepared in `data_dir` at the first call.

    Args:
        name: a TFDS name, with its config after a slash where it has one: `kmnist`, `emnist/letters`.
        splits: train, validation and test as TFDS split strings such as `train[:90%]`; all null takes the set's own
            and cuts what is missing off the end of `train`, 10 % each.
        image_size: `[height, width]` in pixels that all images are stretched to.
        data_dir: where TFDS keeps prepared sets; None is its default.

    Returns:
        Images `[*image_size, 1]` in [0, 1]; colour becomes luma.

    Raises:
        DataError: any of these cannot be had; the message says what to do.
    """
    if not name:
        raise DataError("data.name is missing: give a TensorFlow Datasets name, as in data=tfds_image data.name=kmnist")
    size = images.size_of(image_size)
    builder = prepared.prepared_builder(name, data_dir, tfds.features.Image)
    feature = prepared.feature_name(builder, tfds.features.Image)
    _check_pixels(name, builder.info.features[feature])

    def images_of(split: str) -> tf.data.Dataset:
        stored = prepared.read(builder, split, feature)
        return stored.map(as_it_is(lambda image: images.prepare(image, size)), num_parallel_calls=2)

    return Splits(**{key: images_of(split) for key, split in prepared.choose_splits(builder, dict(splits)).items()})


def _check_pixels(name: str, feature: tfds.features.Image) -> None:
    channels, dtype = feature.shape[-1], np.dtype(feature.np_dtype).name
    if channels not in (1, 3, 4) or dtype not in ("uint8", "uint16"):
        raise DataError(
            f"{name} has images of {channels} channels and {dtype}: only uint8 or uint16 grey, RGB and RGBA are read"
        )
