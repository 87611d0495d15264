"""Spoken digits, synthesised on this machine with eSpeak NG: no network, 62 voices, 300 clips of each digit.

python train.py data=espeak_digits

The package espeakng-loader brings eSpeak NG, which is under the GPLv3: it is used at arm's length, by a program of its
own (`data/espeak.py`). What it says is not under that licence.
"""

import io
import json
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import tensorflow_datasets as tfds

from data import tfds_audio
from data.espeak import RATE_HZ
from data.pipeline import DataError, Splits

COUNTS = {"train": 2000, "validation": 500, "test": 500}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-us-nyc")
TRAIN_SPEAKERS = """
    f1 f4 f5 m1 m2 m4 m5 m7 Alex Annie Gene2 Henrique Hugo Lee Marco Mario Michael Mike Reed RicishayMax RicishayMax2
    Storm adam anika announcer antonio belinda ed grandma ian john klatt klatt3 linda marcelo michel mike2 norbert pedro
    robert steph zac
"""
SPEAKERS = {
    "train": TRAIN_SPEAKERS.split(),
    "validation": ["f2", "m3", "m8", "Alicia", "Denis", "Gene", "Jacky", "quincy", "shelby", "travis"],
    "test": ["f3", "Andrea", "Andy", "Nguyen", "boris", "david", "iven", "pablo", "rob", "sandro"],
}
"""eSpeak NG's voice variants that sound like people; of those that sound alike, none are in two splits."""

PROGRAM = Path(__file__).with_name("espeak.py")
LIMIT_SECONDS = 300
"""For the synthesis of one split, which takes one or two."""


class Utterance(NamedTuple):
    """What `data/espeak.py` is asked to say."""

    voice: str
    text: str
    words_per_minute: int
    pitch: int
    pitch_range: int


class EspeakDigits(tfds.core.GeneratorBasedBuilder):
    """TFDS builder over eSpeak NG: 2,000 / 500 / 500 spoken digits, a tenth of each split every digit.

    No speaker is in two splits. All share six accents of English, speeds and pitches.
    """

    name = "espeak_digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "2,000 train, 500 validation, 500 test."}  # noqa: RUF012 (TFDS's own class attribute)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The words zero to nine, synthesised with eSpeak NG in many voices and accents.",
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Audio(
                        file_format="wav", dtype=np.int16, sample_rate=RATE_HZ, encoding=tfds.features.Encoding.BYTES
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "voice": tfds.features.Text(),
                }
            ),
            supervised_keys=("audio", "label"),
            homepage="https://github.com/espeak-ng/espeak-ng",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        chosen = utterances(split)
        for index, (utterance, sound) in enumerate(zip(chosen, speak(chosen), strict=True)):
            label = WORDS.index(utterance.text)
            yield index, {"audio": _wav_file(sound), "label": label, "voice": utterance.voice}


def load(sample_rate_hz: int, clip_seconds: float, peak_normalize: bool, data_dir: str | None = None) -> Splits:
    """The synthesised digits, prepared in `data_dir` at the first call.

    Args:
        sample_rate_hz: what they are resampled to from 22,050 Hz.
        clip_seconds: the length of all clips: longer ones are cut, shorter ones padded with zeros at the end.
        peak_normalize: true: the loudest sample of every clip becomes 1 or -1; false: as loud as the voice speaks.
        data_dir: where TFDS keeps prepared sets; None is its default.

    Returns:
        2,000 / 500 / 500 clips `[samples, 1]` in [-1, 1].

    Raises:
        DataError: eSpeak NG is missing or fails, the settings make no clips, or `data_dir` cannot be used.
    """
    splits = {split: split for split in COUNTS}
    return tfds_audio.load("espeak_digits", splits, sample_rate_hz, clip_seconds, peak_normalize, None, data_dir)


def utterances(split: str) -> list[Utterance]:
    """What is said in a split, the same every time: digits in turn, each by one speaker after the other."""
    draw = random.Random(split)
    speakers = SPEAKERS[split]
    return [
        Utterance(
            voice=f"{draw.choice(ACCENTS)}+{speakers[index // 10 % len(speakers)]}",
            text=WORDS[index % 10],
            words_per_minute=draw.randint(110, 190),
            pitch=draw.randint(30, 70),
            pitch_range=draw.randint(30, 70),
        )
        for index in range(COUNTS[split])
    ]


def speak(chosen: list[Utterance]) -> list[np.ndarray]:
    """The utterances as int16 `[samples]` at 22,050 Hz, from a process of their own, which ends with this call.

    Raises:
        DataError: it fails, hangs, or gives silence.
    """
    pipe, command = subprocess.PIPE, [sys.executable, str(PROGRAM)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            clips, errors = process.communicate(json.dumps(chosen).encode(), LIMIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"eSpeak NG has not finished within {LIMIT_SECONDS} s: try again") from error
        finally:  # interrupted, subprocess.run would not wait for its end
            process.kill()
            process.wait()
    if process.returncode:
        raise DataError(f"the synthesis failed: {_reason(process.returncode, errors)}")
    sounds = list(_unpacked(clips))
    if len(sounds) != len(chosen) or not all(sound.any() for sound in sounds):
        raise DataError("eSpeak NG gave no sound: pip install --force-reinstall espeakng-loader")
    return sounds


def _unpacked(stream: bytes) -> Iterator[np.ndarray]:
    start = 0
    while start < len(stream):
        (size,) = struct.unpack_from("<I", stream, start)
        yield np.frombuffer(stream, np.int16, size // 2, start + 4)
        start += 4 + size


def _wav_file(sound: np.ndarray) -> io.BytesIO:
    """In memory. TFDS takes samples as bytes from files only; as numbers they would need three times the space."""
    file = io.BytesIO()
    soundfile.write(file, sound, RATE_HZ, format="WAV")
    file.seek(0)
    return file


def _reason(status: int, errors: bytes) -> str:
    """Why the program failed: its last words, or the signal that ended it."""
    if status < 0:
        return f"eSpeak NG was ended by {signal.Signals(-status).name}: try again"
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1][:400] if lines else f"eSpeak NG failed with exit status {status}"
