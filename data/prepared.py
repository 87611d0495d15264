"""TensorFlow Datasets, shared by all loaders: find a set, prepare it once, read it in a fixed order.

TFDS prepares into `<data_dir>/<name>/<version>` by way of `incomplete.<random>_<version>`, which it renames when all is
written: what was killed in the middle is never taken for finished, and of two that prepare at once the first wins.
"""

import contextlib
import difflib
import io
import logging
import os
import sys
import warnings
from pathlib import Path

import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from data import network
from data.pipeline import DataError, as_it_is

log = logging.getLogger(__name__)

# For a set that is not prepared, TFDS asks Google's bucket what it knows of it. That is switched off anyway, but would
# leave an empty temporary folder behind each time.
tfds.core.DatasetInfo.initialize_from_bucket = lambda info: None

SPLIT_NAMES = ("train", "validation", "test")


def prepared_builder(name: str, data_dir: str | None, feature: type) -> tfds.core.DatasetBuilder:
    """A TFDS set that stands ready on disk; the first time, it is downloaded and prepared.

    Args:
        name: a TFDS name, `mnist` or with its config `emnist/letters`.
        data_dir: where prepared sets stand; None is TFDS's default, `TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        feature: the kind of feature that the set must have, e.g. `tfds.features.Image`; without one nothing is fetched.

    Raises:
        DataError: unknown name, missing `data_dir`, no such feature, no network, or the preparation failed.
    """
    builder = _find(name, data_dir)
    feature_name(builder, feature)
    if not builder.data_path.exists():
        _prepare(builder)
        builder = _find(name, data_dir)
    if not builder.is_prepared():
        raise DataError(
            f"{builder.data_dir} is not a complete prepared data set (dataset_info.json or features.json is missing): "
            f"delete that folder, or copy it again"
        )
    return builder


def feature_name(builder: tfds.core.DatasetBuilder, feature: type) -> str:
    """The name of the set's feature of this kind: the one called like the kind (`image`), or else the first.

    Raises:
        DataError: the set has none.
    """
    kind = feature.__name__.lower()
    found = [key for key, value in builder.info.features.items() if type(value) is feature]
    if not found:
        raise DataError(
            f"{builder.name} has no {kind} feature (features: {', '.join(builder.info.features)}): "
            f"choose another set with data.name=..."
        )
    return kind if kind in found else found[0]


def choose_splits(builder: tfds.core.DatasetBuilder, splits: dict[str, str | None]) -> dict[str, str]:
    """Which part of the set is for training, validation and test, as TFDS split strings.

    Args:
        builder: a prepared set.
        splits: `{train, validation, test}`: all three as TFDS split strings, or all None. None takes the set's own
            splits and cuts what is missing off the end of `train`, 10 % each.

    Raises:
        DataError: some are given and some are not, or there is no `train` to cut.
    """
    given = {key: splits.get(key) for key in SPLIT_NAMES}
    if all(given.values()) and len(splits) == 3:
        return {key: str(value) for key, value in given.items()}
    if any(given.values()) or set(splits) - set(SPLIT_NAMES):
        raise DataError(f"data.splits={dict(splits)}: give train, validation and test, or leave all three null")
    own = list(builder.info.splits)
    if "train" not in own:
        raise DataError(f"{builder.name} has no split train (it has {', '.join(own)}): give data.splits.train=... etc.")
    chosen = _cut(own)
    if set(chosen.values()) != set(SPLIT_NAMES):
        log.info("%s has only the splits %s: using %s", builder.name, ", ".join(own), chosen)
    return chosen


def read(builder: tfds.core.DatasetBuilder, split: str, feature: str) -> tf.data.Dataset:
    """One feature of one split, decoded, in the order in which it is stored.

    Raises:
        DataError: the set has no such split, or it is empty.
    """
    try:
        count = builder.info.splits[split].num_examples
    except (ValueError, KeyError, AssertionError) as error:
        own = ", ".join(f"{key} ({value.num_examples})" for key, value in builder.info.splits.items())
        raise DataError(f"data.splits: {builder.name} has no part {split!r} (it has {own})") from error
    if not count:
        raise DataError(f"data.splits: the part {split!r} of {builder.name} is empty")
    dataset = builder.as_dataset(
        split=split, decoders=tfds.decode.PartialDecoding({feature: True}), read_config=_read_config()
    )
    return dataset.map(as_it_is(lambda example: example[feature]))


def _find(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The set's code, or its files where only they exist. Touches no network."""
    if data_dir is not None and not Path(data_dir).expanduser().is_dir():
        raise DataError(f"data.data_dir={data_dir} does not exist: create it, or give the folder of your prepared sets")
    try:
        return tfds.builder(name, data_dir=data_dir and str(Path(data_dir).expanduser()))
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(_unknown(name)) from error
    except Exception as error:  # an unknown config, a version too old, a damaged info file: each has its own class
        reason = f"{_first_lines(error)}{_configs(name)}{_stale(name, data_dir)}"
        raise DataError(f"data.name={name} cannot be opened: {reason}") from error


def _unknown(name: str) -> str:
    known = tfds.list_builders(with_community_datasets=False)
    close = difflib.get_close_matches(name.split("/")[0], known)
    hint = f"did you mean {' or '.join(close)}?" if close else "see https://www.tensorflow.org/datasets/catalog"
    return f"data.name={name} is no data set that TensorFlow Datasets knows: {hint}"


def _configs(name: str) -> str:
    """The set's configs, which TFDS's own message leaves out."""
    base = name.split("/")[0]
    known = base in tfds.list_builders(with_community_datasets=False)
    configs = list(tfds.builder_cls(base).builder_configs) if known else []
    return f"\n{base} has the configs {', '.join(configs[:20])}" if configs else ""


def _stale(name: str, data_dir: str | None) -> str:
    """Advice, where there is a prepared copy, which may be damaged."""
    base = name.split("/")[0].split(":")[0]
    folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / base
    return f"\nif the prepared copy is damaged, delete {folder}" if base.isidentifier() and folder.is_dir() else ""


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Downloads and prepares; TFDS's progress bars only in a terminal, one log line elsewhere too."""
    if builder.url_infos and not network.any_answers(list(builder.url_infos)):
        raise DataError(_no_network(builder))
    log.info("preparing %s in %s, once ...", builder.name, builder.data_dir)
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        # TFDS prints what the line above says; pydub misses ffmpeg, which only MP3 and the like need
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), network.impatient():
            warnings.filterwarnings("ignore", "Couldn't find ffmpeg")
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except DataError:
        raise
    except requests.ConnectionError as error:
        raise DataError(_no_network(builder)) from error
    except Exception as error:  # each set's own code runs here and may raise anything
        if not builder.data_path.exists():  # else another process has just prepared the same set
            raise DataError(_failed(builder, error)) from error


def _no_network(builder: tfds.core.DatasetBuilder) -> str:
    of_audio = any(type(value) is tfds.features.Audio for value in builder.info.features.values())
    return (
        f"{builder.name} is not prepared in {builder.data_dir}, and its download cannot be reached.\n"
        f"Without network: data={'espeak_digits' if of_audio else 'mnist_5k'}, which an installed package brings,\n"
        f"or data.data_dir=... with a prepared copy (the folder that holds {builder.name}/)."
    )


def _failed(builder: tfds.core.DatasetBuilder, error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and error.filename in ("ffmpeg", "ffprobe"):
        return f"{builder.name} needs the program {error.filename} to decode its sounds: install ffmpeg"
    if isinstance(error, OSError) and error.strerror:
        root = builder.data_dir_root
        return f"cannot write {builder.name} to {root}: {error.strerror}. Give another folder with data.data_dir=..."
    return f"{builder.name} could not be prepared in {builder.data_dir}: {_first_lines(error)}"


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"


def _cut(own: list[str]) -> dict[str, str]:
    missing = [key for key in ("validation", "test") if key not in own]
    kept = 100 - 10 * len(missing)
    parts = {key: f"train[{kept + 10 * i}%:{kept + 10 * (i + 1)}%]" for i, key in enumerate(missing)}
    train = f"train[:{kept}%]" if missing else "train"
    return {"train": train, "validation": "validation", "test": "test", **parts}


def _read_config() -> tfds.ReadConfig:
    """One file after the other, in order; autotune off, as everywhere (see `data.pipeline`)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return tfds.ReadConfig(
        options=options,
        try_autocache=False,
        interleave_cycle_length=1,
        num_parallel_calls_for_decode=os.cpu_count(),
        num_parallel_calls_for_interleave_files=1,
    )
