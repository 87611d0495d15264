"""What a trained codec is measured against, on the same examples: image and audio formats, PCM and mu-law, PCA."""

import io
import logging
import lzma
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile
from PIL import Image

from coding import bitstream
from coding.statistics import CodeStatistics

log = logging.getLogger(__name__)

LOSSLESS = "lossless"

JPEG_QUALITIES = (1, 5, 10, 25, 50, 75, 90)
WEBP_QUALITIES = (0, 10, 25, 50, 75, 90)
BLOCK = 8
"""Pixels of a side of what JPEG codes together; in one picture of all, no two images share such a block."""

MU = 255
STEPS_OF_IMAGES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.0, 6.0)
STEPS_OF_AUDIO = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
MOST_PIXELS = 2048
"""That PCA is done of: its time goes with their third power."""
FRAME = 64
"""Samples that PCA takes at a time: as many as make one position of a code in the default model of audio."""

# Name, format, subtype and compression levels (0 to 1) of libsndfile's.
AUDIO_FORMATS = (
    ("Opus", "OGG", "OPUS", (0.9, 0.93, 0.95, 0.97, 0.98, 1.0)),
    ("Vorbis", "OGG", "VORBIS", (0.25, 0.6, 1.0)),
    ("GSM 6.10", "WAV", "GSM610", (None,)),
    ("ADPCM, G.721", "AU", "G721_32", (None,)),
    ("FLAC", "FLAC", "PCM_16", (1.0,)),
)


class Coded(NamedTuple):
    """Examples after a baseline.

    Attributes:
        name: of the baseline.
        setting: of its quality; `LOSSLESS` where there is none.
        size: in bytes, of all examples together.
        x_hat: float32, of the examples' shape.
    """

    name: str
    setting: str
    size: float
    x_hat: np.ndarray


def of_images(train: np.ndarray, test: np.ndarray) -> Iterator[Coded]:
    """Image formats, each image a file and all of them one picture, and PCA.

    Args:
        train: float32 `[n, height, width, 1]` in [0, 1]: PCA learns from these.
        test: alike; the formats get them in 8 bits.
    """
    pixels = np.rint(255 * test[..., 0]).astype(np.uint8)
    yield _images("PNG, file each", LOSSLESS, pixels, "PNG", optimize=True)
    for quality in JPEG_QUALITIES:
        yield _images("JPEG, file each", f"q{quality}", pixels, "JPEG", quality=quality, optimize=True)
    whole = Mosaic(pixels.shape)
    yield _whole("PNG, one picture", LOSSLESS, whole, pixels, "PNG", optimize=True)
    for bits in (1, 2, 4):
        yield few_bits(whole, pixels, bits)
    for quality in JPEG_QUALITIES:
        yield _whole("JPEG, one picture", f"q{quality}", whole, pixels, "JPEG", quality=quality, optimize=True)
    for quality in WEBP_QUALITIES:
        yield _whole("WebP, one picture", f"q{quality}", whole, pixels, "WEBP", quality=quality, method=6)
    yield Coded("xz, raw pixels", LOSSLESS, len(lzma.compress(pixels.tobytes(), preset=9)), _of_pixels(pixels))
    if test[0].size > MOST_PIXELS:
        log.warning("PCA is left out: its matrix would have %d x %d numbers", test[0].size, test[0].size)
        return
    linear = Pca(train.reshape(len(train), -1), test.reshape(len(test), -1))
    for step in STEPS_OF_IMAGES:
        size, x_hat = linear.coded(step)
        yield Coded("PCA", f"step {step:g}", size, np.clip(x_hat, 0, 1).reshape(test.shape))


def of_audio(train: np.ndarray, test: np.ndarray, rate_hz: int) -> Iterator[Coded]:
    """PCM and mu-law with fewer and fewer bits, raw and entropy coded; formats, all clips one file; PCA.

    Args:
        train: float32 `[n, samples, 1]` in [-1, 1]: PCA, and the statistics of what is entropy coded, are of these.
        test: alike; the formats get them in 16 bits.
        rate_hz: samples a second.
    """
    clips = np.rint(32767 * test).astype(np.int16)
    yield Coded("PCM", LOSSLESS, clips.nbytes, (clips / 32767).astype(np.float32))
    for name, forth, back in (("PCM", _same, _same), ("mu-law", compress, expand)):
        for bits in (8, 6, 4, 3, 2):
            ours, theirs = (quantised(forth(x), bits) for x in (test, train))
            x_hat = back(levels(ours, bits))
            yield Coded(name, f"{bits} bits", ours.size * bits / 8, x_hat)
            yield Coded(f"{name}, range coder", f"{bits} bits", _entropy_coded(theirs, ours, 2**bits), x_hat)
    for factor in (2, 4):
        few = quantised(compress(np.clip(resampled(test, 1, factor), -1, 1)), 8)
        x_hat = resampled(expand(levels(few, 8)), factor, 1)[:, : test.shape[1]]
        yield Coded("mu-law, resampled", f"{rate_hz / factor / 1000:g} kHz", few.size, x_hat)
    for name, form, subtype, settings in AUDIO_FORMATS:
        for level in settings:
            try:
                yield sound_file(name, clips, rate_hz, form, subtype, level)
            except (soundfile.LibsndfileError, ValueError) as error:
                log.warning("%s is left out at %d Hz: %s", name, rate_hz, error)
                break
    whole = test.shape[1] - test.shape[1] % FRAME
    if not whole:
        return
    linear = Pca(*(x[:, :whole].reshape(-1, FRAME) for x in (train, test)))
    for step in STEPS_OF_AUDIO:
        size, x_hat = linear.coded(step)
        x_hat = np.pad(x_hat.reshape(len(test), whole, 1), [(0, 0), (0, test.shape[1] - whole), (0, 0)])
        yield Coded("PCA", f"step {step:g}", size, np.clip(x_hat, -1, 1))


class Mosaic:
    """Images side by side in one picture, each with a margin that completes its blocks.

    Args:
        shape: of the images, `(n, height, width)`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, *self.size = shape
        self.margins = [-side % BLOCK for side in self.size]
        self.columns = int(np.ceil(np.sqrt(self.count)))
        self.rows = -(-self.count // self.columns)

    def join(self, images: np.ndarray) -> np.ndarray:
        """`[n, height, width]` to `[rows of them, columns of them]`; places that are left over are black."""
        spare = self.rows * self.columns - self.count
        tiles = np.pad(images, [(0, 0), *((0, margin) for margin in self.margins)], mode="edge")
        tiles = np.pad(tiles, [(0, spare), (0, 0), (0, 0)])
        height, width = tiles.shape[1:]
        tiles = tiles.reshape(self.rows, self.columns, height, width).transpose(0, 2, 1, 3)
        return tiles.reshape(self.rows * height, self.columns * width)

    def part(self, picture: np.ndarray) -> np.ndarray:
        """And back."""
        height, width = (side + margin for side, margin in zip(self.size, self.margins, strict=True))
        tiles = picture.reshape(self.rows, height, self.columns, width).transpose(0, 2, 1, 3)
        return tiles.reshape(-1, height, width)[: self.count, : self.size[0], : self.size[1]]


def few_bits(whole: Mosaic, pixels: np.ndarray, bits: int) -> Coded:
    """Grey levels rounded to 2^bits of them, in a PNG with as many bits a pixel."""
    scale = 255 // (2**bits - 1)
    picture = Image.fromarray(whole.join(np.rint(pixels / scale).astype(np.uint8)))
    picture.putpalette([scale * level for level in range(2**bits) for _ in range(3)])
    size, decoded = _through(picture, "PNG", optimize=True, bits=bits)
    return Coded("PNG, few bits, one picture", f"{bits} bits", size, _of_pixels(scale * whole.part(decoded)))


def compress(x: np.ndarray) -> np.ndarray:
    """The mu-law of ITU-T G.711 without its segments: [-1, 1] to [-1, 1], sign(x) ln(1 + mu |x|) / ln(1 + mu)."""
    return np.sign(x) * np.log1p(MU * np.abs(x)) / math.log1p(MU)


def expand(y: np.ndarray) -> np.ndarray:
    """The way back."""
    return np.sign(y) * np.expm1(np.abs(y) * math.log1p(MU)) / MU


def quantised(x: np.ndarray, bits: int) -> np.ndarray:
    """[-1, 1] to integers from 0 to 2^bits - 2: an odd number of levels, so that silence stays silent."""
    largest = 2 ** (bits - 1) - 1
    return np.rint(largest * x).astype(np.int32) + largest


def levels(codes: np.ndarray, bits: int) -> np.ndarray:
    """And back, float32."""
    largest = 2 ** (bits - 1) - 1
    return (codes.astype(np.float32) - largest) / largest


def resampled(x: np.ndarray, up: int, down: int) -> np.ndarray:
    """Clips `[n, samples, 1]` at `up / down` times their rate."""
    from scipy.signal import resample_poly

    return resample_poly(x, up, down, axis=1).astype(np.float32)


def sound_file(name: str, clips: np.ndarray, rate_hz: int, form: str, subtype: str, level: float | None) -> Coded:
    """All clips, one after the other, as one file of a format of libsndfile's.

    Args:
        name: for the result.
        clips: int16 `[n, samples, 1]`.
        rate_hz: samples a second.
        form: libsndfile's name of the file format.
        subtype: and of what is in it.
        level: of the compression, from 0 to 1; None for formats that have none.

    Raises:
        LibsndfileError: libsndfile does not write that, or not at this rate.
        ValueError: it does not know the format.
    """
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, 1, subtype, format=form, compression_level=level) as writer:
        for clip in clips:  # libsndfile's encoder of Vorbis overflows its stack if it gets all at once
            writer.write(clip)
    size = file.tell() if form == "OGG" else file.getbuffer().nbytes
    file.seek(0)
    decoded, _ = soundfile.read(file, clips.size, dtype="float32", always_2d=True, fill_value=0)
    setting = LOSSLESS if form == "FLAC" else f"{8 * size / (clips.size / rate_hz) / 1000:.3g} kbit/s"
    decoded = decoded.reshape(clips.shape) * (32768 / 32767)  # by which libsndfile takes full scale to be larger
    return Coded(name, setting, size, np.clip(decoded, -1, 1))


class Pca:
    """The best linear transform, its coefficients rounded to multiples of a step, and the range coder: no network.

    Args:
        train: vectors `[n, size]` that the transform and the statistics of the coefficients come from.
        test: vectors `[m, size]` to be coded.
    """

    def __init__(self, train: np.ndarray, test: np.ndarray) -> None:
        self.mean = train.mean(axis=0)
        _, self.basis = np.linalg.eigh((train - self.mean).T @ (train - self.mean))
        self.train, self.test = ((x - self.mean) @ self.basis for x in (train, test))

    def coded(self, step: float) -> tuple[int, np.ndarray]:
        """Bytes of the test vectors, and what they are after it, float32.

        Args:
            step: between neighbouring values of a coefficient; where it is large, most of them are always 0.
        """
        theirs, ours = (np.rint(coefficients / step).astype(np.int32) for coefficients in (self.train, self.test))
        used = theirs.any(axis=0)  # what is always 0 in training is not sent
        size = _entropy_coded(theirs[:, used], ours[:, used], None) if used.any() else 0
        return size, (ours * used * step @ self.basis.T + self.mean).astype(np.float32)


def _entropy_coded(train: np.ndarray, test: np.ndarray, count: int | None) -> int:
    """Bytes of integers under the statistics of others, by last axis: of `count` values from 0, or of any."""
    theirs, ours = (x.reshape(-1, x.shape[-1]) for x in (train, test))
    first = 0 if count else int(theirs.min())
    width = count or int(theirs.max()) - first + 1
    counts = np.stack([np.bincount(column - first, minlength=width) for column in theirs.T])
    return len(bitstream.encode(ours, CodeStatistics.of(counts, count, first, (), ())))


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _images(name: str, setting: str, pixels: np.ndarray, form: str, **options: object) -> Coded:
    files = [_through(Image.fromarray(image), form, **options) for image in pixels]
    return Coded(name, setting, sum(size for size, _ in files), _of_pixels(np.stack([image for _, image in files])))


def _whole(name: str, setting: str, whole: Mosaic, pixels: np.ndarray, form: str, **options: object) -> Coded:
    size, picture = _through(Image.fromarray(whole.join(pixels)), form, **options)
    return Coded(name, setting, size, _of_pixels(whole.part(picture)))


def _through(picture: Image.Image, form: str, **options: object) -> tuple[int, np.ndarray]:
    """Bytes of the file, and what is in it: grey levels, or numbers in its palette."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    with Image.open(file) as read:
        return file.getbuffer().nbytes, np.asarray(read if read.mode in ("L", "P") else read.convert("L"))


def _of_pixels(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255).astype(np.float32)[..., None]
