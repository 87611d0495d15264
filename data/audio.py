"""From stored sound to `x`: one channel, one rate, one length, in [-1, 1]."""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy import signal

from data.pipeline import DataError

SHORTEST, LONGEST = 16, 5_000_000
"""The samples that a clip may have: below, no model has anything to shorten; 5 million are 20 MB an example."""

FILTER_REACH = 10
"""Samples that the resampling filter looks to either side, counted at the lower of the two rates."""


class ClipFormat(NamedTuple):
    """What every clip becomes: `[samples, 1]` at `sample_rate_hz`; `clip_format` makes one."""

    sample_rate_hz: int
    samples: int
    peak_normalize: bool


def clip_format(sample_rate_hz: int, clip_seconds: float, peak_normalize: bool) -> ClipFormat:
    """The settings `data.sample_rate_hz`, `data.clip_seconds` and `data.peak_normalize`, checked.

    Raises:
        DataError: the first is no integer above 0, or both together make too few or too many samples.
    """
    check_rate("sample_rate_hz", sample_rate_hz)
    exact = sample_rate_hz * clip_seconds
    samples = round(exact) if math.isfinite(exact) else 0
    if not SHORTEST <= samples <= LONGEST:
        raise DataError(
            f"data.sample_rate_hz={sample_rate_hz} times data.clip_seconds={clip_seconds} makes clips of "
            f"{exact:.12g} samples: give values that make {SHORTEST} to {LONGEST}"
        )
    return ClipFormat(sample_rate_hz, samples, peak_normalize)


def check_rate(key: str, rate_hz: int) -> None:
    """Refuses what is no sampling rate.

    Raises:
        DataError: naming `data.<key>`.
    """
    if type(rate_hz) is not int or rate_hz < 1:
        raise DataError(f"data.{key}={rate_hz} must be an integer above 0: samples per second")


def prepare(sound: np.ndarray, source_rate_hz: int, clip: ClipFormat, skip: int = 0) -> np.ndarray:
    """Turns a stored sound into `x`: mixed, resampled, cut or padded with zeros at the end, then normalised.

    Args:
        sound: `[frames]` or `[frames, channels]`, any length from 0, integer or float; see `full_scale`.
        source_rate_hz: frames per second.
        clip: what to make of it. With `peak_normalize` the loudest sample of what is kept becomes 1 or -1, and only
            digital silence stays zeros; without it full scale is 1, and what lies above is clipped.
        skip: samples to leave out at the start, counted at the clip's rate.

    Returns:
        float32 `[clip.samples, 1]` in [-1, 1].

    Raises:
        DataError: a sample is NaN or infinite.
    """
    return finish(resample(mono(sound), source_rate_hz, clip.sample_rate_hz)[skip : skip + clip.samples], clip)


def finish(x: np.ndarray, clip: ClipFormat) -> np.ndarray:
    """The last step of `prepare`: float64 `[samples]`, at the clip's rate and not too long, to `x`."""
    peak = np.abs(x).max(initial=0)
    if clip.peak_normalize and peak > 0:
        x = x / peak
    x = np.pad(np.clip(x, -1, 1), (0, clip.samples - len(x)))
    return x.astype(np.float32)[:, None]


def mono(sound: np.ndarray) -> np.ndarray:
    """Stored samples `[frames]` or `[frames, channels]` as float64 `[frames]`; raises what `full_scale` does."""
    sound = full_scale(sound)
    return sound.mean(axis=1) if sound.ndim == 2 else sound


def full_scale(sound: np.ndarray) -> np.ndarray:
    """Stored samples as float64 with full scale at 1.

    An integer's full scale is that of its type, with unsigned ones around their middle. But int32 and int64 are also
    what TFDS puts any sound into: there it is 16 bits if all samples fit, or else 32. The two are hardly mistaken for
    each other: a 32-bit recording that fits into 16 bits is 96 dB below its full scale.

    Raises:
        DataError: a sample is NaN or infinite.
    """
    if np.issubdtype(sound.dtype, np.floating):
        if not np.isfinite(sound).all():
            raise DataError("a sound has samples that are NaN or infinite: repair it or leave it out")
        return sound.astype(np.float64)
    info = np.iinfo(sound.dtype)
    middle = 0.0 if info.min < 0 else 2.0 ** (info.bits - 1)
    bits = info.bits
    if bits >= 32:
        int16 = np.iinfo(np.int16)
        bits = 16 if sound.min(initial=0) >= int16.min and sound.max(initial=0) <= int16.max else 32
    return (sound - middle) / 2.0 ** (bits - 1)


def resample(x: np.ndarray, source_rate_hz: int, sample_rate_hz: int) -> np.ndarray:
    """`x` at another rate, antialiased, with silence around it.

    Args:
        x: float64 `[frames]`.
        source_rate_hz: of `x`.
        sample_rate_hz: of the result.

    Returns:
        float64 `[ceil(frames * sample_rate_hz / source_rate_hz)]`.
    """
    up, down = _ratio(source_rate_hz, sample_rate_hz)
    return x if up == down or not len(x) else signal.resample_poly(x, up, down, window=_filter(up, down))


def source_range(source_rate_hz: int, sample_rate_hz: int, first: int, samples: int) -> tuple[int, int, int]:
    """Where a part of a long sound lies, with what the resampling filter needs around it.

    Args:
        source_rate_hz: of the sound.
        sample_rate_hz: of the part.
        first: its first sample.
        samples: how many it has.

    Returns:
        `(start, stop, skip)`: frames to read (`stop` may lie beyond the end), and `prepare`'s `skip` for them: the
        part is then, sample by sample, what resampling the whole sound would have given.
    """
    up, down = _ratio(source_rate_hz, sample_rate_hz)
    reach = FILTER_REACH * max(up, down) // up + 1
    start = max(0, first * down // up - reach) // down * down
    stop = -(-(first + samples) * down // up) + reach
    return start, stop, first - start // down * up


def _ratio(source_rate_hz: int, sample_rate_hz: int) -> tuple[int, int]:
    """`(up, down)`: every `down` frames become `up` samples."""
    common = math.gcd(source_rate_hz, sample_rate_hz)
    return sample_rate_hz // common, source_rate_hz // common


@functools.lru_cache(maxsize=8)
def _filter(up: int, down: int) -> np.ndarray:
    """`resample_poly`'s own filter, which it would design anew for every clip."""
    rate = max(up, down)
    return signal.firwin(2 * FILTER_REACH * rate + 1, 1 / rate, window=("kaiser", 5.0))
