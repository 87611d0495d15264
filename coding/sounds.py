"""Sounds of any length, file by file: to rows of codes, and back.

A clip of the length that the model was trained with is coded as in evaluation. What is longer or shorter is coded as
one signal, in windows: each reads as much to either side as its codes, or samples, depend on: there are no seams.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soundfile
import tensorflow as tf
from tqdm import tqdm

from coding.container import Item
from coding.images import Read, batches
from coding.stored import Codec, Stored
from conf.checks import ConfigError
from data import folder_audio
from data.pipeline import DataError

if TYPE_CHECKING:
    import keras

    from models.autoencoder import Autoencoder

WINDOW = 2048
"""Frames of codes that are made, or decoded, at once."""

FARTHEST = 2**13
"""Frames: a model that looks as far is taken for one that has no end."""


class Frames(NamedTuple):
    """How the frames of codes lie over the samples.

    Attributes:
        step: samples from one frame to the next.
        last: samples that belong to the last frame, 1 to `step`: the model has learned where frames begin on clips of
            one length, and finds it there again only if others end in the same way.
        reach: frames to either side that a code, or a sample, depends on.
    """

    step: int
    last: int
    reach: int

    def count(self, samples: int) -> int:
        """The frames of a sound."""
        return max(0, -(-(samples - self.last) // self.step)) + 1

    def samples(self, first: int, stop: int) -> tuple[int, int]:
        """The samples that the encoder takes for some frames, from and to; zeros stand beyond the sound's end."""
        return first * self.step, (stop - 1) * self.step + self.last

    def windows(self, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Windows over so many frames: `(low, first, stop, high)`; to have first to stop, low to high are needed."""
        for first in range(0, count, WINDOW):
            stop = min(first + WINDOW, count)
            yield max(0, first - self.reach), first, stop, min(count, stop + self.reach)

    @classmethod
    def of(cls, autoencoder: "Autoencoder", clip_samples: int) -> "Frames":
        """Measured.

        Raises:
            ConfigError: each code depends on all of a sound, however long.
        """
        long = 2**24
        step = round(long / autoencoder.encoder.compute_output_shape((1, long, 1))[1])
        last = (clip_samples - 1) % step + 1
        middle = 2 + max(_span(autoencoder.encoder), _span(autoencoder.decoder))
        if middle <= FARTHEST:
            reach = max(
                _reach_of_encoder(autoencoder, step, last, middle), _reach_of_decoder(autoencoder, step, middle)
            )
            if reach < middle - 1:  # or it may go beyond the edges
                return cls(step, last, reach)
        raise ConfigError(f"run: its codes depend on more than {FARTHEST} frames around them: no sound can be cut so")


def _span(model: "keras.Model") -> int:
    """No fewer frames than convolutions see, whatever their rate; a dilated one may skip a whole window of less."""
    convolutions = [layer for layer in model.layers if hasattr(layer, "kernel_size")]
    return sum((layer.kernel_size[0] - 1) * layer.dilation_rate[0] for layer in convolutions)


def _reach_of_encoder(autoencoder: "Autoencoder", step: int, last: int, middle: int) -> int:
    """Where one NaN in the middle goes, in frames."""
    x = np.zeros((1, 2 * middle * step + last, 1), np.float32)
    x[:, middle * step : (middle + 1) * step] = np.nan
    u = autoencoder.encode(tf.constant(x)).numpy()
    return int(np.abs(np.flatnonzero(np.isnan(u[0]).any(axis=-1)) - middle).max())


def _reach_of_decoder(autoencoder: "Autoencoder", step: int, middle: int) -> int:
    code = np.zeros((1, 2 * middle + 1, autoencoder.latent.units), np.float32)
    code[:, middle] = np.nan
    x_hat = autoencoder.decode(tf.constant(code)).numpy()
    return int(np.abs(np.flatnonzero(np.isnan(x_hat[0, :, 0])) // step - middle).max())


class Sounds:
    """What a run of audio does with files.

    Args:
        stored: the run.
    """

    QUALITY = "SI-SDR"

    def __init__(self, stored: Stored) -> None:
        data = stored.config.data
        self.size = 0, 0
        self.sample_rate_hz: int = data.sample_rate_hz
        self.peak_normalize: bool = data.peak_normalize
        self.clip_samples = stored.statistics.shape[0]
        autoencoder = stored.model([None, 1])
        self.clips = Codec(autoencoder, stored.config.batch_size)
        self.one = Codec(autoencoder, 1)
        self.frames = Frames.of(autoencoder, self.clip_samples)

    def items(self, files: Sequence[Path], names: Sequence[str]) -> list[Item]:
        """Of files, which are read once to find how loud they are, if the model has learned sounds of one loudness.

        Raises:
            ConfigError: a file cannot be read.
        """
        return [self._item(file, name) for file, name in zip(files, names, strict=True)]

    def rows(self, items: Sequence[Item]) -> int:
        """How many rows of codes they have."""
        return sum(self.frames.count(item.samples) for item in items)

    def encode(self, files: Sequence[Path], items: Sequence[Item]) -> Iterator[np.ndarray]:
        """Rows of codes, int32 `[n, units]`.

        Raises:
            ConfigError: a file cannot be read.
        """
        for group in self._groups(list(zip(items, files, strict=True))):
            item, file = group[0]
            if self._is_clip(item):
                code = self.clips.encode(
                    np.stack([self._read(clip, path, 0, self.clip_samples) for clip, path in group])
                )
                yield code.reshape(-1, code.shape[-1])
                continue
            for low, first, stop, high in self.frames.windows(self.frames.count(item.samples)):
                x = self._read(item, file, *self.frames.samples(low, high))
                yield self.one.encode(x[None])[0, first - low : stop - low]

    def decode(self, items: Sequence[Item], read: Read) -> Iterator[tuple[Item, Iterator[np.ndarray]]]:
        """Each item and its sound, in parts of float32 `[samples]`; to be used in this order."""
        for group in self._groups([(item,) for item in items]):
            item = group[0][0]
            if self._is_clip(item):
                rows = read(self.rows([item for (item,) in group]))
                x_hat = self.clips.decode(rows.reshape(len(group), -1, rows.shape[-1]))
                for (item,), sound in zip(group, x_hat, strict=True):
                    yield item, iter([self._finished(item, sound[: item.samples, 0])])
            else:
                yield item, self._decode_windows(item, read)

    def write(self, path: Path, parts: Iterator[np.ndarray]) -> None:
        """Stores what `decode` gave, as 16-bit WAV."""
        try:
            with soundfile.SoundFile(path, "w", self.sample_rate_hz, 1, "PCM_16", format="WAV") as sound:
                for part in parts:
                    sound.write(part)
        except soundfile.LibsndfileError as error:  # which does not say what the system said
            raise OSError(f"{error.error_string} Is the disk full?") from error

    def quality_db(self, file: Path, item: Item, parts: Iterator[np.ndarray]) -> float:
        """SI-SDR of what `decode` gave, over the whole sound (see `telemetry.metrics.si_sdr_db`)."""
        start, products = 0, np.zeros(3)
        for part in parts:
            x = item.gain * self._read(item, file, start, start + len(part))[:, 0].astype(np.float64)
            start, y = start + len(part), part.astype(np.float64)
            products += x @ x, x @ y, y @ y
        xx, xy, yy = products
        target = xy**2 / max(xx, 1e-10)
        return 10 * math.log10((target + 1e-10) / (max(yy - target, 0) + 1e-10))

    def extent(self, items: Sequence[Item]) -> tuple[float, str]:
        """How much there is, to give rates: the seconds."""
        return sum(item.samples for item in items) / self.sample_rate_hz, "second"

    def _item(self, file: Path, name: str) -> Item:
        try:
            samples = folder_audio.length(str(file), self.sample_rate_hz)
        except DataError as error:
            raise ConfigError(f"input: {error}") from error
        item = Item(name, samples)
        if not self.peak_normalize:
            return item
        hop = WINDOW * self.frames.step
        starts = tqdm(range(0, samples, hop), desc="how loud", delay=2, leave=False)
        peak = max(np.abs(self._part(file, start, hop)).max(initial=0) for start in starts)
        return item._replace(gain=float(np.float32(peak)))

    def _read(self, item: Item, file: Path, start: int, stop: int) -> np.ndarray:
        """Samples as the model takes them, float32 `[stop - start, 1]`; zeros beyond the end."""
        x = self._part(file, start, min(stop, item.samples) - start) / (item.gain or 1)
        return np.pad(np.clip(x, -1, 1), (0, stop - start - len(x))).astype(np.float32)[:, None]

    def _part(self, file: Path, start: int, samples: int) -> np.ndarray:
        try:
            return folder_audio.part(str(file), start, max(0, samples), self.sample_rate_hz)
        except DataError as error:
            raise ConfigError(f"input: {error}") from error

    def _finished(self, item: Item, x_hat: np.ndarray) -> np.ndarray:
        return np.clip(item.gain * np.clip(x_hat, -1, 1), -1, 1)

    def _decode_windows(self, item: Item, read: Read) -> Iterator[np.ndarray]:
        step, rows, have = self.frames.step, None, 0
        for low, first, stop, high in self.frames.windows(self.frames.count(item.samples)):
            fresh = read(high - have)
            rows = fresh if rows is None else np.concatenate([rows, fresh])
            rows, have = rows[len(rows) - (high - low) :], high
            x_hat = self.one.decode(rows[None])[0, (first - low) * step : (stop - low) * step, 0]
            yield self._finished(item, x_hat[: item.samples - first * step])

    def _is_clip(self, item: Item) -> bool:
        return item.samples == self.clip_samples

    def _groups(self, entries: list[Any]) -> Iterator[Sequence[Any]]:
        """Clips in batches, and other sounds one by one, in their order; an entry begins with its item."""
        for clips, group in itertools.groupby(entries, lambda entry: self._is_clip(entry[0])):
            yield from batches(list(group), self.clips.batch_size if clips else 1)
