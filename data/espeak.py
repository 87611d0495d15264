"""Speaks with eSpeak NG, as a program of its own: `python data/espeak.py < utterances > clips`.

The library is under the GPLv3. Nothing but this program loads it, and nothing but two streams joins it to the rest.

    in   JSON, a list of [voice, text, words per minute, pitch 0..99, pitch range 0..99]
    out  for each: its length in bytes (uint32, little-endian), then int16 samples at 22,050 Hz, one channel

The same input gives the same output. A mistake is one line on stderr and exit status 1.
"""

import ctypes
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RATE_HZ = 22_050

# from espeak-ng/speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS, INITIALIZE_DONT_EXIT, CHARS_UTF8 = 2, 0x8000, 1
SPEED, PITCH, PITCH_RANGE = 1, 3, 4
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def start() -> ctypes.CDLL:
    """The library, ready to speak."""
    try:
        import espeakng_loader

        data = Path(espeakng_loader.get_data_path())
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except (ImportError, OSError, RuntimeError) as error:
        sys.exit(f"the package espeakng-loader is missing or damaged ({error}): pip install espeakng-loader")
    os.chdir(data.parent)  # the library takes no path of more than 160 characters
    if library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data.name.encode(), INITIALIZE_DONT_EXIT) != RATE_HZ:
        sys.exit(f"eSpeak NG cannot read {data}: pip install --force-reinstall espeakng-loader")
    library.espeak_ng_SetRandSeed(0)  # breath and flutter are random
    return library


def speak(library: ctypes.CDLL, utterances: list[list[Any]]) -> Iterator[bytes]:
    """The utterances' samples, one after the other."""
    clip = bytearray()

    @Callback
    def collect(samples: int | None, count: int, events: int) -> int:
        clip.extend(ctypes.string_at(samples, 2 * count) if samples else b"")
        return 0

    library.espeak_SetSynthCallback(collect)
    for voice, text, *parameters in utterances:
        clip.clear()
        choose(library, voice)
        for key, value in zip((SPEED, PITCH, PITCH_RANGE), parameters, strict=True):
            library.espeak_SetParameter(key, value, 0)
        contents = text.encode()
        if library.espeak_Synth(contents, ctypes.c_size_t(len(contents) + 1), 0, 0, 0, CHARS_UTF8, None, None):
            sys.exit(f"eSpeak NG cannot say {text!r} in the voice {voice}")
        yield bytes(clip)


def choose(library: ctypes.CDLL, voice: str) -> None:
    """Sets the voice; one with an unknown variant (`en+variant`), which the library would pass over, is refused."""
    variant = voice.partition("+")[2]
    if library.espeak_SetVoiceByName(voice.encode()) or not Path("espeak-ng-data/voices/!v", variant).exists():
        sys.exit(f"this eSpeak NG has no voice {voice}: pip install espeakng-loader==0.2.4")


def main() -> None:
    """Reads all utterances, then writes clip by clip."""
    utterances = json.load(sys.stdin)
    clips = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # or what the library prints would get in between
    with clips:
        for clip in speak(start(), utterances):
            clips.write(struct.pack("<I", len(clip)) + clip)


if __name__ == "__main__":
    main()
