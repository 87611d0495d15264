"""Any audio set of TensorFlow Datasets, as clips of one rate and one length.

python train.py data=spoken_digit
python train.py data=tfds_audio data.name=speech_commands
"""

from collections.abc import Mapping

import tensorflow as tf
import tensorflow_datasets as tfds

from data import audio, prepared
from data.pipeline import DataError, Splits


def load(
    name: str | None,
    splits: Mapping[str, str | None],
    sample_rate_hz: int,
    clip_seconds: float,
    peak_normalize: bool,
    source_rate_hz: int | None = None,
    data_dir: str | None = None,
) -> Splits:
    """A TFDS audio set, downloaded and prepared in `data_dir` at the first call.

    Args:
        name: a TFDS name, with its config after a slash where it has one: `speech_commands`, `groove/full-16000hz`.
        splits: train, validation and test as TFDS split strings such as `train[:90%]`; all null takes the set's own
            and cuts what is missing off the end of `train`, 10 % each.
        sample_rate_hz: what all sounds are resampled to.
        clip_seconds: what is kept of each sound, from its start; shorter ones are padded with zeros at the end.
        peak_normalize: true: the loudest sample of every clip becomes 1 or -1; false: full scale is 1.
        source_rate_hz: what the sounds are stored at; None is what the set declares.
        data_dir: where TFDS keeps prepared sets; None is its default.

    Returns:
        Clips `[samples, 1]` in [-1, 1]; channels are averaged.

    Raises:
        DataError: any of these cannot be had; the message says what to do.
    """
    if not name:
        raise DataError(
            "data.name is missing: give a TensorFlow Datasets name, as in data=tfds_audio data.name=speech_commands"
        )
    clip = audio.clip_format(sample_rate_hz, clip_seconds, peak_normalize)
    builder = prepared.prepared_builder(name, data_dir, tfds.features.Audio)
    feature = prepared.feature_name(builder, tfds.features.Audio)
    rate_hz = _source_rate(name, source_rate_hz, builder.info.features[feature])

    def clips_of(split: str) -> tf.data.Dataset:
        return _read(builder, split, feature).map(lambda sound: _prepare(sound, rate_hz, clip), num_parallel_calls=2)

    return Splits(**{key: clips_of(split) for key, split in prepared.choose_splits(builder, dict(splits)).items()})


def _source_rate(name: str, given: int | None, feature: tfds.features.Audio) -> int:
    rate_hz = given if given is not None else feature.sample_rate or None
    if rate_hz is None:
        raise DataError(f"{name} does not say at what rate its sounds are stored: give data.source_rate_hz=...")
    audio.check_rate("source_rate_hz", rate_hz)
    return rate_hz


def _read(builder: tfds.core.DatasetBuilder, split: str, feature: str) -> tf.data.Dataset:
    try:
        return prepared.read(builder, split, feature)
    except ImportError as error:  # a set that keeps FLAC files as they are
        raise DataError(
            f"{builder.name} keeps encoded files, which TensorFlow Datasets cannot decode here "
            f"({str(error).splitlines()[0]}): choose another config of it with data.name=..."
        ) from error


def _prepare(sound: tf.Tensor, rate_hz: int, clip: audio.ClipFormat) -> tf.Tensor:
    """`audio.prepare` of a sound's beginning, as an operation of TensorFlow's."""
    _, stop, _ = audio.source_range(rate_hz, clip.sample_rate_hz, 0, clip.samples)
    x = tf.numpy_function(lambda start: audio.prepare(start, rate_hz, clip), [sound[:stop]], tf.float32, stateful=False)
    return tf.ensure_shape(x, (clip.samples, 1))
