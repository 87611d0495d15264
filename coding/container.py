"""A file of codes: a small header that says what it is and whose, and the bitstream.

    3 bytes   "RTC"
    1 byte    version of the format
    4 bytes   CRC-32 of all that follows: a changed or missing bit is told, never decoded
    8 bytes   digest of the model
    4 bytes   samples a second; 0 for images
    2 + 2     height and width; 0 for audio
    4 bytes   number of items
    4 bytes   length of the list of items: for each the samples (8 bytes) and gain (float32) if they are sounds, then,
              if a folder was encoded, names; compressed by zlib if there is more than one
    ...       the list, and the bitstream

Numbers are little-endian.
"""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from conf.checks import ConfigError

MAGIC, VERSION = b"RTC", 1
START = struct.Struct("<3sBI")
FIXED = struct.Struct("<8sIHHII")
SOUND = np.dtype([("samples", "<u8"), ("gain", "<f4")])
UNDECODABLE = "surrogateescape"  # as Python has names of files that are not UTF-8


class Item(NamedTuple):
    """An image or a sound.

    Attributes:
        name: relative to the folder that was encoded; empty where it was a file.
        samples: of a sound, at the model's rate.
        gain: what a sound was divided by; 0 of silence, which it stays.
    """

    name: str
    samples: int = 0
    gain: float = 1.0


class Header(NamedTuple):
    """What a file of codes says of itself.

    Attributes:
        digest: of the model, 8 bytes.
        sample_rate_hz: of sounds; 0 for images.
        size: `(height, width)` of images; (0, 0) for sounds.
        items: in the order of their codes.
    """

    digest: bytes
    sample_rate_hz: int
    size: tuple[int, int]
    items: list[Item]


def pack(header: Header, bitstream: bytes) -> bytes:
    """The file's bytes."""
    items = header.items
    table = b""
    if header.sample_rate_hz:
        table += np.array([(item.samples, item.gain) for item in items], SOUND).tobytes()
    if any(item.name for item in items):
        table += "\0".join(item.name for item in items).encode(errors=UNDECODABLE)
    table = zlib.compress(table, 9) if len(items) > 1 else table
    fixed = FIXED.pack(header.digest, header.sample_rate_hz, *header.size, len(items), len(table))
    rest = fixed + table + bitstream
    return START.pack(MAGIC, VERSION, zlib.crc32(rest)) + rest


def unpack(data: bytes, path: Path) -> tuple[Header, bytes]:
    """Header and bitstream of a file's bytes.

    Args:
        data: the bytes.
        path: of the file, for messages.

    Raises:
        ConfigError: it is no such file, or damaged.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise ConfigError(f"input={path} is no file of codes: give one that python codec.py encode has written")
    damaged = ConfigError(f"input={path} is damaged or cut short: copy or encode it again")
    if len(data) < START.size + FIXED.size:
        raise damaged
    _, version, checksum = START.unpack_from(data)
    if version != VERSION:
        raise ConfigError(
            f"input={path} is of format version {version}, this is for version {VERSION}: or it is damaged"
        )
    rest = data[START.size :]
    if zlib.crc32(rest) != checksum:
        raise damaged
    digest, sample_rate_hz, height, width, count, length = FIXED.unpack_from(rest)
    table, bitstream = rest[FIXED.size :][:length], rest[FIXED.size + length :]
    try:
        items = _items(table, count, bool(sample_rate_hz))
    except (ValueError, zlib.error) as error:
        raise damaged from error
    if any(Path(item.name).is_absolute() or ".." in Path(item.name).parts for item in items):
        raise ConfigError(f"input={path} names files outside of the folder that it would be decoded to")
    return Header(digest, sample_rate_hz, (height, width), items), bitstream


def _items(table: bytes, count: int, are_sounds: bool) -> list[Item]:
    if not count:
        raise ValueError("no items")
    table = zlib.decompress(table) if count > 1 else table
    sounds = np.frombuffer(table, SOUND, count if are_sounds else 0)
    rest = table[sounds.nbytes :]
    names = rest.decode(errors=UNDECODABLE).split("\0") if rest else [""] * count
    numbers = sounds.tolist() if are_sounds else [(0, 1.0)] * count
    return [Item(name, *of_sound) for name, of_sound in zip(names, numbers, strict=True)]
