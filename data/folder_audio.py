"""Your own WAV and FLAC files.

    python train.py data=folder_audio data.path=/my/recordings

The files are read at every start, by the next runs of a sweep if they have changed, and nothing is stored, so that a
changed folder is never read stale.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import soundfile
import tensorflow as tf

from data import audio, folder
from data.files import SOUNDS
from data.in_memory import empty, tensor
from data.memory import check_fits
from data.pipeline import DataError, Splits

log = logging.getLogger(__name__)

LONGEST_FRAMES = 2**40
"""Years; soundfile reports more where a FLAC file, having been streamed, leaves its length open."""


def load(path: str | None, sample_rate_hz: int, clip_seconds: float, peak_normalize: bool) -> Splits:
    """All WAV and FLAC files under `path`, 80 % / 10 % / 10 % of the files, as clips of one rate and one length.

    A file longer than a clip is cut into consecutive clips, which stay in one split; a rest shorter than half a clip
    is left out. A shorter file is one clip, padded with zeros at the end. Which file goes where depends on its name
    relative to `path` (on the name's hash): adding files moves few others.

    Args:
        path: a folder, searched with all its subfolders; hidden files are left out.
        sample_rate_hz: what all sounds are resampled to.
        clip_seconds: the length of all clips.
        peak_normalize: true: the loudest sample of every clip becomes 1 or -1; false: full scale is 1.

    Returns:
        Clips `[samples, 1]` in [-1, 1]; channels are averaged.

    Raises:
        DataError: no such folder, fewer than 3 sounds in it, or one that is empty or cannot be decoded.
    """
    clip = audio.clip_format(sample_rate_hz, clip_seconds, peak_normalize)
    files = folder.find(path, SOUNDS, "WAV or FLAC", "data=folder_audio data.path=/my/recordings")
    parts = {
        key: [piece for file in part for piece in _pieces(file, clip)] for key, part in folder.split(files).items()
    }
    log.info("reading %d clips from %d files under %s", sum(map(len, parts.values())), len(files), path)
    return Splits(**{key: tf.data.Dataset.from_tensor_slices(_read_all(part, clip)) for key, part in parts.items()})


def _pieces(file: str, clip: audio.ClipFormat) -> list[tuple[str, int]]:
    """`(file, index)` of every clip in a file."""
    samples = length(file, clip.sample_rate_hz)
    return [(file, index) for index in range(max(1, (2 * samples + clip.samples) // (2 * clip.samples)))]


def _read_all(pieces: list[tuple[str, int]], clip: audio.ClipFormat) -> tf.Tensor:
    """All clips, `[clips, samples, 1]`, decoded in parallel, each by itself: a long file is never in memory whole."""
    check_fits(len(pieces) * clip.samples, f"{len(pieces)} clips", "give fewer files, or another data.sample_rate_hz")
    x = empty((len(pieces), clip.samples, 1), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, decoded in zip(x, pool.map(lambda piece: _read(piece, clip), pieces), strict=True):
            row[:] = decoded
    return tensor(x)


def _read(piece: tuple[str, int], clip: audio.ClipFormat) -> np.ndarray:
    file, index = piece
    return audio.finish(part(file, index * clip.samples, clip.samples, clip.sample_rate_hz), clip)


def part(file: str, first: int, samples: int, sample_rate_hz: int) -> np.ndarray:
    """Some samples of a file at a rate, float64; sample by sample what resampling all of it would have given.

    Args:
        file: WAV or FLAC.
        first: the first sample, counted at `sample_rate_hz`.
        samples: how many; fewer come where the file ends before.
        sample_rate_hz: of the result.

    Raises:
        DataError: the file cannot be read.
    """
    with opened(file) as sound:
        start, stop, skip = audio.source_range(sound.samplerate, sample_rate_hz, first, samples)
        frames = max(0, min(stop, sound.frames) - start)
        sound.seek(min(start, sound.frames))
        stored = sound.read(frames, dtype="float64")
        if len(stored) < frames:
            raise DataError(f"{file} ends {frames - len(stored)} frames too early: repair or remove it")
        return audio.resample(audio.mono(stored), sound.samplerate, sample_rate_hz)[skip : skip + samples]


def length(file: str, sample_rate_hz: int) -> int:
    """The number of samples that a file has at a rate.

    Raises:
        DataError: the file cannot be read, or holds no sound.
    """
    with opened(file) as sound:
        if sound.frames > LONGEST_FRAMES:
            raise DataError(f"{file} does not say how long it is: write it anew, with ffmpeg into a file for example")
        if not sound.frames:
            raise DataError(f"{file} holds no sound: remove it")
        return -(-sound.frames * sample_rate_hz // sound.samplerate)


@contextmanager
def opened(file: str) -> Iterator[soundfile.SoundFile]:
    """The file's header read; what goes wrong with it names the file."""
    try:
        with soundfile.SoundFile(file) as sound:
            yield sound
    except DataError as error:
        raise error if file in str(error) else DataError(f"{file}: {error}") from error
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{file} cannot be read as WAV or FLAC ({error.error_string or error.code}): repair or remove it"
        ) from error
