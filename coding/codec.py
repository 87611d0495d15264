"""Files to codes, and codes to files."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from coding import container
from coding.bitstream import Decoder, Encoder, ideal_bits
from coding.container import Header
from coding.stored import Stored
from conf.checks import ConfigError
from data.files import IMAGES, SOUNDS, visible
from telemetry import output

if TYPE_CHECKING:  # TensorFlow takes seconds to import; a mistake on the command line is answered before that
    from coding.images import Images
    from coding.sounds import Sounds

log = logging.getLogger("codec")


def encode(stored: Stored, input: Path, path: Path) -> None:
    """Writes the codes of a file, or of all files in a folder, to `path`, and reports what they cost and give.

    Raises:
        ConfigError: the input cannot be read, the output exists or cannot be written.
    """
    output.check_new(path)
    files, names = found(input, stored.is_image)
    medium = medium_of(stored)
    items = medium.items(files, names)
    encoder, ideal = Encoder(stored.statistics), 0.0
    with _progress("encoding", medium.rows(items)) as bar:
        for rows in medium.encode(files, items):
            encoder.write(rows)
            ideal += ideal_bits([rows], stored.statistics)
            bar.update(len(rows))
    bitstream = encoder.finish()
    header = Header(stored.digest, medium.sample_rate_hz, medium.size, items)
    data = container.pack(header, bitstream)
    with output.fresh(path) as draft:
        draft.write_bytes(data)
        log.info("%s", _cost(path, medium, header, len(data), len(bitstream), ideal, files))
        log.info("%s", _quality(stored, medium, header, bitstream, files))


def decode(stored: Stored, input: Path, path: Path) -> None:
    """Writes the images or sounds that `encode` has made a file of.

    Raises:
        ConfigError: the input is damaged, or another model's; the output exists or cannot be written.
    """
    output.check_new(path)
    header, bitstream = read(stored, input)
    folder = bool(header.items[0].name)
    suffix = ".png" if stored.is_image else ".wav"
    if not folder and path.suffix.lower() != suffix:
        raise ConfigError(f"output={path} must end in {suffix}, which is what is written")
    if folder and path.suffix.lower() == suffix:
        raise ConfigError(f"output={path} must be the name of a folder: input={input} was made of one")
    medium = medium_of(stored)
    with output.fresh(path) as draft:
        for item, content in decoding(stored, medium, header, bitstream):
            file = draft / item.name if folder else draft
            file.parent.mkdir(parents=True, exist_ok=True)
            medium.write(file, content)
    log.info("%s: %s", path, f"{len(header.items)} files" if folder else "written")


def read(stored: Stored, path: Path) -> tuple[Header, bytes]:
    """A file of codes of this run.

    Raises:
        ConfigError: it cannot be read, is damaged, or of another model.
    """
    try:
        header, bitstream = container.unpack(path.read_bytes(), path)
    except OSError as error:
        raise ConfigError(f"input={path} cannot be read: {error.strerror}") from error
    if header.digest != stored.digest:
        raise ConfigError(
            f"input={path} was made by another model than run={stored.path}: give the run that encoded it"
        )
    return header, bitstream


def decoding(stored: Stored, medium: "Images | Sounds", header: Header, bitstream: bytes) -> Iterator[tuple[Any, Any]]:
    """Each item and its content, as the medium gives them."""
    count = medium.rows(header.items)
    decoder = Decoder(bitstream, count, stored.statistics)
    with _progress("decoding", count) as bar:

        def next_rows(count: int) -> np.ndarray:
            bar.update(count)
            return decoder.read(count)

        yield from medium.decode(header.items, next_rows)


def medium_of(stored: Stored) -> "Images | Sounds":
    """What reads and writes such a run's files; imports TensorFlow."""
    stored.start()
    if stored.is_image:
        from coding.images import Images

        return Images(stored)
    from coding.sounds import Sounds

    return Sounds(stored)


def found(input: Path, is_image: bool) -> tuple[list[Path], list[str]]:
    """The files to encode, and their names as `decode` will write them; of a single file, the name is empty.

    Raises:
        ConfigError: there are none, or two that would be written to the same name.
    """
    suffixes, kind = (IMAGES, "PNG or JPEG") if is_image else (SOUNDS, "WAV or FLAC")
    if not input.exists():
        raise ConfigError(f"input={input} does not exist")
    if not input.is_dir():
        if input.suffix.lower() not in suffixes:
            raise ConfigError(f"input={input} must be a {kind} file, or a folder of them: the run is of such")
        return [input], [""]
    relative = sorted(visible(input, suffixes))
    if not relative:
        raise ConfigError(f"input={input} holds no {kind} file")
    written = suffixes[0]
    names = [f"{file}" if file.suffix.lower() == written else f"{file}{written}" for file in relative]
    if len({*names}) < len(names):
        raise ConfigError(f"input={input} holds files that decoding would give the same name, such as a.jpg, a.jpg.png")
    return [input / file for file in relative], names


def _progress(doing: str, rows: int) -> tqdm:
    return tqdm(total=rows, desc=doing, unit="row", unit_scale=True, delay=2, leave=False)


def _cost(
    path: Path, medium: "Images | Sounds", header: Header, size: int, coded: int, ideal: float, files: Sequence[Path]
) -> str:
    extent, unit = medium.extent(header.items)
    before = sum(file.stat().st_size for file in files)
    over = f"{8 * coded / ideal - 1:+.2%}" if ideal else "nothing"
    return "\n".join(
        [
            f"{path}: {size:,} bytes for {len(files):,} file{'s' * (len(files) > 1)} of {before:,} bytes in all",
            f"rate          {8 * size / extent:,.4g} bits per {unit}; without the header, {8 * coded / extent:,.4g}",
            f"bitstream     {coded:,} bytes; ideal under the training set's statistics {ideal / 8:,.1f} ({over})",
        ]
    )


def _quality(stored: Stored, medium: "Images | Sounds", header: Header, bitstream: bytes, files: Sequence[Path]) -> str:
    """Of what a decoder will give."""
    decoded = decoding(stored, medium, header, bitstream)
    levels = [medium.quality_db(file, item, content) for file, (item, content) in zip(files, decoded, strict=True)]
    spread = f", {min(levels):.2f} to {max(levels):.2f}" if len(levels) > 1 else ""
    return f"{medium.QUALITY:14}{np.mean(levels):.2f} dB{spread}"
