"""Audio against NumPy in float64 and analytic sines, speech against what was asked for, mistakes against sentences."""

import itertools
import os
import re
import signal
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import array, config, load, members, sentence, shared, stand_in

PREPARED = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
AUDIO = [stem for stem in members("data") if "sample_rate_hz" in config(stem)]
FEW = {"train": 40, "validation": 20, "test": 20}


def noise(*shape, seed=0, dtype=np.int16):
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return random.uniform(-1, 1, shape).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, shape, dtype, endpoint=True)


def sine(rate_hz, frequency_hz=440.0, seconds=1.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def prepared_clip(sound, source_rate_hz=8000, sample_rate_hz=8000, clip_seconds=1.0, peak_normalize=False, **more):
    from data import audio

    clip = audio.clip_format(sample_rate_hz, clip_seconds, peak_normalize)
    x = audio.prepare(sound, source_rate_hz, clip, **more)
    assert x.dtype == np.float32
    assert x.shape == (round(sample_rate_hz * clip_seconds), 1)
    assert np.abs(x).max() <= 1
    return x[:, 0]


def clips(dataset):
    """The multiset of clips, as bytes."""
    return Counter(x.tobytes() for x in array(dataset))


def prepare(name, data_dir, sounds, key="audio", version="1.0.0", **feature):
    """A stand-in of audio, its splits `sounds`, its Audio feature made of the rest."""
    import tensorflow_datasets as tfds

    features = {"audio/filename": tfds.features.Text(), "id": np.int64, key: tfds.features.Audio(**feature)}
    examples = {
        split: [{"audio/filename": f"{n}.wav", "id": n, key: sound} for n, sound in enumerate(part)]
        for split, part in sounds.items()
    }
    return stand_in(name, data_dir, version, features, examples)


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """A data_dir with the synthesised set and small stand-ins for those that need the network."""
    recordings = list(noise(2600, 20))
    with shared(tmp_path_factory, "tfds") as data_dir:
        load("espeak_digits", data_dir=str(data_dir))
        prepare("spoken_digit", data_dir, {"train": recordings}, sample_rate=8000, version="1.0.9")
        prepare("yesno", data_dir, {"train": [noise(16_000, seed=n) for n in range(20)]}, sample_rate=16_000)
    return str(data_dir)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """A folder of 30 files in subfolders, WAV and FLAC, of 0.2 to 3.1 seconds and two rates."""
    import soundfile

    folder = tmp_path_factory.mktemp("recordings")
    for index in range(30):
        file = folder / f"{index % 3}" / f"{index}.{'FLAC' if index % 5 == 0 else 'wav'}"
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, noise(1600 + 800 * index, seed=index), (8000, 16_000)[index % 2])
    (folder / "notes.txt").write_text("no sound")
    (folder / ".hidden.wav").write_text("no sound either")
    (folder / "folder.wav").mkdir()
    return str(folder)


# Every configuration


@pytest.mark.parametrize("stem", AUDIO)
def test_clips_are_float32_in_the_range(stem, sets, recordings):
    special = {"folder_audio": {"path": recordings}, "tfds_audio": {"name": "yesno", "data_dir": sets}}
    splits, seen = load(stem, **special.get(stem, {"data_dir": sets})), Counter()
    assert splits._fields == ("train", "validation", "test")
    for dataset in splits:
        assert dataset.element_spec.shape == (8000, 1)
        x = array(dataset)
        seen.update(example.tobytes() for example in x)
        assert x.dtype == np.float32
        assert len(x) == int(dataset.cardinality())
        np.testing.assert_array_equal(np.abs(x).max(axis=(1, 2)), 1)
    np.testing.assert_array_equal(x, array(splits.test))
    assert seen.most_common(1)[0][1] == 1, "no clip is in two splits"


def test_audio_sets_change_other_settings():
    from conf import compose
    from conf.checks import check

    assert set(AUDIO) == {"espeak_digits", "spoken_digit", "tfds_audio", "folder_audio"}
    for stem in AUDIO:
        assert check(compose([f"data={stem}"]))["choices"]["latent"] == "integer"


@pytest.mark.parametrize(
    "override",
    [
        *(f"data.sample_rate_hz={value}" for value in ("0", "-8000", "8000.5", "null", "9999999", "fast", "true")),
        *(f"data.clip_seconds={value}" for value in ("0", "-1", "inf", "nan", "null", "[1]")),
        *(f"data.source_rate_hz={value}" for value in ("0", "8000.0", "high")),
        *(f"data.peak_normalize={value}" for value in ("1", "null", "maybe")),
    ],
)
def test_value_out_of_range_is_refused_by_name(override):
    from conf import compose
    from conf.checks import ConfigError, check

    with pytest.raises(ConfigError, match=f"^{override.split('=')[0]} must be .* got "):
        check(compose(["data=spoken_digit", override]))


# From stored sound to x


@pytest.mark.parametrize(
    ("dtype", "full_scale", "middle"),
    [
        (np.int8, 2**7, 0),
        (np.uint8, 2**7, 2**7),
        (np.int16, 2**15, 0),
        (np.uint16, 2**15, 2**15),
        (np.int32, 2**31, 0),
        (np.float32, 1, 0),
        (np.float64, 1, 0),
    ],
)
def test_full_scale_is_that_of_the_type(dtype, full_scale, middle):
    stored = noise(8000, dtype=dtype)
    expected = (stored.astype(np.float64) - middle) / full_scale
    np.testing.assert_allclose(prepared_clip(stored), expected, atol=1e-7)


@pytest.mark.parametrize("container", [np.int32, np.int64])
def test_full_scale_within_a_wider_container(container):
    stored = noise(8000)
    np.testing.assert_allclose(prepared_clip(stored.astype(container)), stored / 2**15, atol=1e-7)
    stored = np.array([-(2**15), 2**15 - 1], container)
    np.testing.assert_allclose(prepared_clip(stored)[:2], [-1, 1 - 2**-15], atol=1e-7)
    for value in (2**15, -(2**15) - 1, 2**31 - 1, -(2**31)):
        assert prepared_clip(np.array([value], container))[0] == np.float32(value / 2**31)


def test_channels_are_averaged():
    stored = noise(8000, 3)
    np.testing.assert_allclose(prepared_clip(stored), stored.mean(axis=1) / 2**15, atol=1e-7)
    assert not prepared_clip(np.tile([[1.0, -1.0]], (8000, 1))).any()


def test_long_is_cut_and_short_is_padded_at_the_end():
    stored = noise(12_000, dtype=np.float64)
    np.testing.assert_allclose(prepared_clip(stored), stored[:8000], atol=1e-7)
    x = prepared_clip(stored[:5000])
    np.testing.assert_allclose(x[:5000], stored[:5000], atol=1e-7)
    assert not x[5000:].any()


def test_the_peak_is_that_of_what_is_kept():
    stored = 0.25 * noise(12_000, dtype=np.float64)
    stored[10_000] = 1
    kept = stored[:8000]
    np.testing.assert_allclose(prepared_clip(stored, peak_normalize=True), kept / np.abs(kept).max(), atol=1e-7)
    np.testing.assert_allclose(prepared_clip(stored), kept, atol=1e-7)


def test_what_is_above_full_scale_is_clipped_unless_normalised():
    stored = np.array([0.5, -4.0, 2.0])
    np.testing.assert_array_equal(prepared_clip(stored)[:3], [0.5, -1, 1])
    np.testing.assert_array_equal(prepared_clip(stored, peak_normalize=True)[:3], [0.125, -1, 0.5])


@pytest.mark.parametrize("source_rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 7999])
@pytest.mark.parametrize("sample_rate_hz", [8000, 16_000])
def test_a_sine_stays_that_sine_at_another_rate(source_rate_hz, sample_rate_hz):
    x = prepared_clip(sine(source_rate_hz), source_rate_hz, sample_rate_hz)
    inner = slice(sample_rate_hz // 50, -sample_rate_hz // 50)
    np.testing.assert_allclose(x[inner], sine(sample_rate_hz)[inner], atol=2e-3)


@pytest.mark.parametrize("frequency_hz", [5000, 6000, 9000])
def test_what_the_lower_rate_cannot_hold_is_filtered_out(frequency_hz):
    x = prepared_clip(sine(22_050, frequency_hz), 22_050, 8000)
    assert np.abs(x[200:-200]).max() < 0.005


def test_the_filter_is_scipys():
    from scipy import signal as scipy_signal

    stored = noise(22_050, dtype=np.float64)
    expected = scipy_signal.resample_poly(stored, 160, 441)
    np.testing.assert_allclose(prepared_clip(0.5 * stored, 22_050), 0.5 * expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (0, 2), (1, 2), (30_000,)])
@pytest.mark.parametrize("peak_normalize", [True, False])
@pytest.mark.parametrize("source_rate_hz", [8000, 44_100])
def test_silence_of_any_length_stays_zeros(shape, peak_normalize, source_rate_hz):
    for dtype in (np.int16, np.float32):
        assert not prepared_clip(np.zeros(shape, dtype), source_rate_hz, peak_normalize=peak_normalize).any()
    assert not prepared_clip(np.full(shape, 128, np.uint8), source_rate_hz, peak_normalize=peak_normalize).any()


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("source_rate_hz", [8000, 44_100, 4000])
def test_clips_shorter_than_the_filter(frames, source_rate_hz):
    x = prepared_clip(np.full(frames, 5e-324), source_rate_hz, peak_normalize=True)
    assert np.isfinite(x).all()
    assert np.argmax(np.abs(prepared_clip(np.ones(frames), source_rate_hz, peak_normalize=True))) < 12


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad):
    from data.pipeline import DataError

    with pytest.raises(DataError, match="NaN or infinite"):
        prepared_clip(np.array([0.1, bad, 0.2]))


@pytest.mark.parametrize(
    ("source_rate_hz", "sample_rate_hz"), [(8000, 8000), (22_050, 8000), (48_000, 16_000), (8000, 11_025), (7999, 8000)]
)
def test_the_clips_of_a_long_sound_join_seamlessly(source_rate_hz, sample_rate_hz):
    from data import audio

    sound = 0.4 * noise(source_rate_hz, dtype=np.float64)
    whole = prepared_clip(sound, source_rate_hz, sample_rate_hz, 1.0)
    clip = audio.clip_format(sample_rate_hz, 0.1, False)
    for index in range(10):
        start, stop, skip = audio.source_range(source_rate_hz, clip.sample_rate_hz, index * clip.samples, clip.samples)
        x = audio.prepare(sound[start:stop], source_rate_hz, clip, skip)[:, 0]
        np.testing.assert_allclose(x, whole[index * clip.samples :][: clip.samples], atol=1e-6)
    assert stop - start < 0.2 * source_rate_hz + 2 * source_rate_hz / np.gcd(source_rate_hz, sample_rate_hz)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"clip_seconds": 0.001}, "makes clips of 8 samples: give values that make 16 to 5000000"),
        ({"clip_seconds": 1e6}, "makes clips of 8000000000 samples"),
        ({"clip_seconds": float("inf")}, "makes clips of inf samples"),
        ({"clip_seconds": float("nan")}, "makes clips of nan samples"),
        ({"clip_seconds": -1}, "makes clips of -8000 samples"),
        ({"sample_rate_hz": 0}, "data.sample_rate_hz=0 must be an integer above 0"),
        ({"sample_rate_hz": 8000.5}, "data.sample_rate_hz=8000.5 must be"),
        ({"sample_rate_hz": True}, "data.sample_rate_hz=True must be"),
    ],
)
@pytest.mark.parametrize("stem", AUDIO)
def test_settings_that_make_no_clips(stem, overrides, expected):
    assert expected in sentence(stem, **overrides, **({"name": "yesno"} if stem == "tfds_audio" else {}))


# TFDS sets


def test_spoken_digit_is_split_as_its_yaml_says(sets):
    splits = load("spoken_digit", data_dir=sets)
    assert [int(dataset.cardinality()) for dataset in splits] == [2000, 500, 100]


@pytest.mark.skipif(
    not (PREPARED / "spoken_digit").is_dir(), reason="needs spoken_digit, prepared in TFDS_DATA_DIR or its default"
)
def test_the_real_spoken_digit():
    import tensorflow_datasets as tfds

    splits = load("spoken_digit", data_dir=str(PREPARED), peak_normalize=False)
    assert [int(dataset.cardinality()) for dataset in splits] == [2000, 500, 500]

    builder = tfds.builder("spoken_digit", data_dir=str(PREPARED))
    sounds = [example["audio"] for example in tfds.as_numpy(builder.as_dataset(split="train"))]
    expected = Counter(
        np.pad(s[:8000] / 2**15, (0, max(0, 8000 - len(s)))).astype(np.float32).tobytes() for s in sounds
    )
    assert sum(map(clips, splits), Counter()) == expected
    assert np.abs(array(splits.test)).max() > 0.1


@pytest.mark.parametrize("key", ["audio", "speech"])
def test_a_set_is_resampled_from_the_rate_it_declares(key, tmp_path):
    stored = [np.rint(sine(22_050, 200 + 10 * n) * 2**15).astype(int) for n in range(20)]
    prepare("tiny", tmp_path, {"train": stored}, key=key, sample_rate=22_050)
    splits = load("tfds_audio", name="tiny", data_dir=str(tmp_path), peak_normalize=False)
    assert [int(dataset.cardinality()) for dataset in splits] == [16, 2, 2]
    x = np.concatenate([array(dataset) for dataset in splits])[..., 0]
    x = x[np.abs(np.fft.rfft(x)).argmax(axis=1).argsort()]  # TFDS stores them in an order of its own
    expected = np.array([sine(8000, 200 + 10 * n) for n in range(20)])
    np.testing.assert_allclose(x[:, 200:-200], expected[:, 200:-200], atol=2e-3)


@pytest.mark.parametrize("declared", [None, 8000])
def test_source_rate_given_by_the_user_wins(declared, tmp_path):
    prepare("tiny", tmp_path, {"train": [np.rint(sine(16_000) * 2**15).astype(int)] * 10}, sample_rate=declared)
    splits = load("tfds_audio", name="tiny", data_dir=str(tmp_path), peak_normalize=False, source_rate_hz=16_000)
    x = array(splits.test)[0, :, 0]
    np.testing.assert_allclose(x[200:-200], sine(8000)[200:-200], atol=2e-3)


def test_no_rate_known(tmp_path):
    prepare("tiny", tmp_path, {"train": [noise(100)] * 10})
    message = sentence("tfds_audio", name="tiny", data_dir=str(tmp_path))
    assert "tiny does not say at what rate its sounds are stored: give data.source_rate_hz=" in message
    message = sentence("tfds_audio", name="tiny", data_dir=str(tmp_path), source_rate_hz=0)
    assert "data.source_rate_hz=0 must be an integer above 0" in message


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ({"dtype": np.int16}, 2**15),
        ({"dtype": np.int32}, 2**15),
        ({"dtype": np.float32}, 1),
        ({"dtype": np.int16, "shape": (None, 2)}, 2**15),
        ({"dtype": np.int64, "shape": (4000,)}, 2**15),
    ],
)
def test_kinds_of_audio_features(feature, expected, tmp_path):
    shape = (10, 4000, 2) if feature.get("shape") == (None, 2) else (10, 4000)
    stored = noise(*shape, dtype=np.float32 if feature["dtype"] == np.float32 else np.int16)
    prepare("tiny", tmp_path, {"train": list(stored.astype(feature["dtype"]))}, sample_rate=8000, **feature)
    splits = load("tfds_audio", name="tiny", data_dir=str(tmp_path), peak_normalize=False, clip_seconds=0.5)
    ours = sorted(np.concatenate([array(dataset) for dataset in splits])[..., 0].tolist())
    mono = stored.mean(axis=2) if len(shape) == 3 else stored
    np.testing.assert_allclose(ours, sorted((mono / expected).astype(np.float32).tolist()), atol=1e-7)


@pytest.mark.parametrize("lazy", [False, True])
def test_sets_that_keep_files(lazy, tmp_path):
    import soundfile

    stored = noise(10, 8000)
    for index, sound in enumerate(stored):
        soundfile.write(tmp_path / f"{index}.wav", sound, 8000)
    files = [tmp_path / f"{index}.wav" for index in range(10)]
    prepare("tiny", tmp_path, {"train": files}, sample_rate=8000, file_format="wav", lazy_decode=lazy)
    splits = load("tfds_audio", name="tiny", data_dir=str(tmp_path), peak_normalize=False)
    ours = sorted(np.concatenate([array(dataset) for dataset in splits])[..., 0].tolist())
    np.testing.assert_array_equal(ours, sorted((stored / np.float32(2**15)).tolist()))


def test_sets_that_keep_flac_files(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "0.flac", noise(8000), 8000)
    feature = {"sample_rate": 8000, "file_format": "flac", "lazy_decode": True, "dtype": np.int16}
    prepare("tiny", tmp_path, {"train": [tmp_path / "0.flac"] * 10}, **feature)
    message = sentence("tfds_audio", name="tiny", data_dir=str(tmp_path))
    assert "tiny keeps encoded files, which TensorFlow Datasets cannot decode here" in message


def test_a_set_with_samples_that_are_no_numbers(tmp_path):
    from data.pipeline import DataError, in_memory

    prepare("tiny", tmp_path, {"train": [np.full(100, np.nan, np.float32)] * 10}, sample_rate=8000, dtype=np.float32)
    with pytest.raises(DataError, match=r"the train set cannot be read .*a sound has samples that are NaN or infinite"):
        in_memory(load("tfds_audio", name="tiny", data_dir=str(tmp_path)))


def test_no_more_of_a_long_sound_is_resampled_than_is_kept(tmp_path, monkeypatch):
    from data import audio

    seen, resample = [], audio.resample
    monkeypatch.setattr(audio, "resample", lambda x, *rates: seen.append(len(x)) or resample(x, *rates))
    prepare("tiny", tmp_path, {"train": [noise(500_000)] * 10}, sample_rate=22_050)
    array(load("tfds_audio", name="tiny", data_dir=str(tmp_path)).test)
    assert 22_050 < seen[0] < 22_200


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, "data.name is missing: give a TensorFlow Datasets name, as in data=tfds_audio data.name="),
        ({"name": "spoken_digits"}, "did you mean spoken_digit"),
        ({"name": "yesno", "data_dir": "/nope"}, "data.data_dir=/nope does not exist"),
        ({"name": "mnist"}, "mnist has no audio feature (features: image, label)"),
    ],
)
def test_mistakes_are_told_in_a_sentence(overrides, expected, no_network):
    assert expected in sentence("tfds_audio", **overrides)
    assert not no_network


def test_without_network_or_copy_the_synthesised_digits_are_named(tmp_path, no_network):
    message = sentence("spoken_digit", data_dir=str(tmp_path))
    assert f"spoken_digit is not prepared in {tmp_path}" in message
    assert "Without network: data=espeak_digits" in message


@pytest.mark.parametrize("program", ["ffmpeg", "ffprobe"])
def test_a_missing_decoder_is_named(program, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fails(self, **kwargs):
        raise FileNotFoundError(2, "No such file or directory", program)

    monkeypatch.setattr("data.network.any_answers", lambda urls: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fails)
    assert f"spoken_digit needs the program {program}" in sentence("spoken_digit", data_dir=str(tmp_path))


# Folders


def sound_files(folder, write, count=3):
    """Writes the same file so many times, and loads one of them: its clips `[clips, samples]`."""
    for index in range(count):
        write(folder / f"{index}.wav")
    return lambda **overrides: array(load("folder_audio", path=str(folder), **overrides).train)[..., 0]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["WAV PCM_U8", "WAV PCM_16", "WAV PCM_24", "WAV PCM_32", "WAV FLOAT", "WAV DOUBLE",
                                  "WAVEX PCM_24", "FLAC PCM_S8", "FLAC PCM_16", "FLAC PCM_24"])  # fmt: skip
def test_every_kind_of_file_gives_its_samples(kind, channels, tmp_path):
    import soundfile

    container, subtype = kind.split()
    sound = 0.9 * noise(8000, channels, dtype=np.float64)
    read = sound_files(tmp_path, lambda file: soundfile.write(file, sound, 8000, subtype=subtype, format=container))
    bits = {"8": 8, "6": 16, "4": 24}.get(subtype[-1], 24)
    np.testing.assert_allclose(read(peak_normalize=False)[0], sound.mean(axis=1), atol=1.01 / 2 ** (bits - 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_files_of_scipys_writing(dtype, tmp_path):
    from scipy.io import wavfile

    sound = noise(8000, 2, dtype=dtype)
    read = sound_files(tmp_path, lambda file: wavfile.write(file, 8000, sound))
    middle = {np.uint8: 128}.get(dtype, 0)
    full_scale = {np.uint8: 2**7, np.int16: 2**15, np.int32: 2**31, np.float32: 1}[dtype]
    expected = (sound.astype(np.float64) - middle).mean(axis=1) / full_scale
    np.testing.assert_allclose(read(peak_normalize=False)[0], expected, atol=1e-7)
    np.testing.assert_allclose(read()[0], expected / np.abs(expected).max(), atol=1e-6)


def test_24_bits_of_the_standard_librarys_writing(tmp_path):
    values = np.random.default_rng(0).integers(-(2**23), 2**23, 8000)

    def write(file):
        with wave.open(str(file), "wb") as stream:
            stream.setparams((1, 3, 8000, 0, "NONE", ""))
            stream.writeframes(b"".join(int(value).to_bytes(3, "little", signed=True) for value in values))

    read = sound_files(tmp_path, write)
    np.testing.assert_allclose(read(peak_normalize=False)[0], values / 2**23, atol=1e-7)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(1, 1), (3999, 1), (8000, 1), (11_999, 1), (12_000, 2), (16_000, 2), (19_999, 2), (20_000, 3), (24_001, 3)],
)
def test_long_files_make_consecutive_clips(frames, expected, tmp_path):
    import soundfile

    sound = 0.9 * noise(frames, dtype=np.float64)
    x = sound_files(tmp_path, lambda file: soundfile.write(file, sound, 8000, subtype="FLOAT"))(peak_normalize=False)
    assert len(x) == expected
    joined = np.pad(sound, (0, max(0, x.size - frames)))[: x.size]
    np.testing.assert_allclose(x.ravel(), joined, atol=1e-6)


def test_long_files_are_resampled_without_seams_and_piece_by_piece(tmp_path, monkeypatch):
    import soundfile

    sound = sine(44_100, seconds=5.3)
    read = sound_files(tmp_path, lambda file: soundfile.write(file, sound, 44_100, subtype="FLOAT"))
    frames, original = [], soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, count, **kwargs: frames.append(count) or original(self, count, **kwargs),
    )
    x = read(peak_normalize=False).ravel()
    assert len(x) == 5 * 8000
    np.testing.assert_allclose(x[200:], sine(8000, seconds=5)[200:], atol=2e-3)
    assert max(frames) < 1.05 * 44_100


def test_the_clips_of_a_file_stay_in_one_split(tmp_path):
    import soundfile

    for index in range(30):
        level = (index + 1) / 40
        soundfile.write(tmp_path / f"{index}.wav", np.full(8000 * (1 + index % 3), level), 8000, subtype="FLOAT")
    splits = load("folder_audio", path=str(tmp_path), peak_normalize=False)
    files = [set(np.rint(array(dataset)[:, 0, 0] * 40).astype(int)) for dataset in splits]
    assert [len(part) for part in files] == [24, 3, 3]
    assert len(set.union(*files)) == 30
    assert sum(int(dataset.cardinality()) for dataset in splits) == 60


def test_folder_is_split_by_name_not_by_place_and_read_anew(recordings, tmp_path):
    import shutil

    import soundfile

    copy = tmp_path / "copy"
    shutil.copytree(recordings, copy)
    first = load("folder_audio", path=recordings)
    for here, there in zip(first, load("folder_audio", path=str(copy)), strict=True):
        np.testing.assert_array_equal(array(here), array(there))
    soundfile.write(copy / "1" / "1.wav", noise(8000, seed=99), 8000)
    before = sum(map(clips, first), Counter())
    after = sum(map(clips, load("folder_audio", path=str(copy))), Counter())
    assert (after - before).total() == 1


def test_folder_mistakes(tmp_path):
    import soundfile

    assert "data.path is missing: give your folder, as in data=folder_audio" in sentence("folder_audio")
    assert "data.path=/nope does not exist" in sentence("folder_audio", path="/nope")
    assert "is not a folder" in sentence("folder_audio", path=__file__)
    for index in range(3):
        assert f"holds {index} WAV or FLAC files" in sentence("folder_audio", path=str(tmp_path))
        soundfile.write(tmp_path / f"{index}.wav", noise(20_000), 8000)
    (tmp_path / "text.wav").write_text("no sound at all")
    message = sentence("folder_audio", path=str(tmp_path))
    assert f"{tmp_path}/text.wav cannot be read as WAV or FLAC (Format not recognised" in message
    (tmp_path / "text.wav").unlink()
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    assert f"{tmp_path}/empty.wav holds no sound" in sentence("folder_audio", path=str(tmp_path))
    soundfile.write(tmp_path / "empty.wav", np.full(100, np.nan), 8000, subtype="FLOAT")
    message = sentence("folder_audio", path=str(tmp_path))
    assert f"{tmp_path}/empty.wav: a sound has samples that are NaN or infinite" in message


def test_a_flac_file_that_leaves_its_length_open_is_named(tmp_path):
    import soundfile

    for index in range(3):
        soundfile.write(tmp_path / f"{index}.flac", noise(20_000, seed=index), 8000)
    contents = bytearray((tmp_path / "1.flac").read_bytes())
    contents[21] &= 0xF0  # of the header's total of samples, 36 bits
    contents[22:26] = bytes(4)
    (tmp_path / "1.flac").write_bytes(contents)
    said = sentence("folder_audio", path=str(tmp_path))
    assert said.startswith(f"{tmp_path}/1.flac does not say how long it is")


@pytest.mark.parametrize("damage", ["truncated", "zeroed"])
def test_a_damaged_flac_file_is_named(damage, tmp_path):
    import soundfile

    for index in range(3):
        soundfile.write(tmp_path / f"{index}.flac", noise(20_000, seed=index), 8000)
    contents = bytearray((tmp_path / "1.flac").read_bytes())
    half = len(contents) // 2
    contents[half:] = b"" if damage == "truncated" else bytes(len(contents) - half)
    (tmp_path / "1.flac").write_bytes(contents)
    assert sentence("folder_audio", path=str(tmp_path)).startswith(f"{tmp_path}/1.flac ")


# Synthesised digits


def stored(sets, split):
    """The examples of a split of the synthesised digits, as TFDS keeps them."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("espeak_digits", data_dir=sets)
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


@pytest.fixture(scope="module")
def digits(sets):
    return {split: stored(sets, split) for split in ("train", "validation", "test")}


@pytest.fixture
def few(monkeypatch):
    """Makes the set a few clips long, which prepares quickly."""
    from data import espeak_digits

    monkeypatch.setattr(espeak_digits, "COUNTS", FEW)


def test_digits_are_balanced_and_distinct(digits):
    for split, count in (("train", 2000), ("validation", 500), ("test", 500)):
        assert Counter(example["label"] for example in digits[split]) == dict.fromkeys(range(10), count // 10)
    sounds = [example["audio"].tobytes() for part in digits.values() for example in part]
    assert len(set(sounds)) == 3000


def test_no_speaker_is_in_two_splits(digits):
    speakers = [{example["voice"].decode().split("+")[1] for example in part} for part in digits.values()]
    assert [len(part) for part in speakers] == [42, 10, 10]
    assert len(set.union(*speakers)) == 62
    accents = {example["voice"].decode().split("+")[0] for example in digits["test"]}
    assert accents == {"en-us", "en", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-us-nyc"}


def test_digits_are_about_as_long_as_a_word_and_audible(digits):
    sounds = [example["audio"] for part in digits.values() for example in part]
    seconds = np.array([len(sound) / 22_050 for sound in sounds])
    assert seconds.min() > 0.15
    assert np.median(seconds) == pytest.approx(0.45, abs=0.05)
    assert np.mean(seconds > 1) < 0.005
    assert {sound.dtype.name for sound in sounds} == {"int16"}
    assert min(np.abs(sound.astype(int)).max() for sound in sounds) > 2000


def spectra(examples):
    """`[examples, features]`: loudness by 24 bands and 20 moments of each word."""
    from scipy import signal as scipy_signal

    edges = np.unique(np.geomspace(3, 230, 25).astype(int))
    features = []
    for example in examples:
        power = np.abs(scipy_signal.stft(example["audio"] / 2**15, nperseg=512)[2]) ** 2
        bands = np.log([power[low:high].mean(axis=0) + 1e-9 for low, high in itertools.pairwise(edges)])
        bands = scipy_signal.resample(bands, 20, axis=1)
        features.append((bands - bands.mean(axis=1, keepdims=True)).ravel())
    return np.array(features) / np.linalg.norm(features, axis=1, keepdims=True)


def test_labels_belong_to_the_sounds(digits):
    """Nearest to a clip's spectrum is that of the word which its label means, spoken by someone else."""
    from data.espeak_digits import Utterance, speak

    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    known = [{"audio": sound} for sound in speak([Utterance("en-us+m1", word, 150, 50, 50) for word in words])]
    nearest = (spectra(digits["test"][:200]) @ spectra(known).T).argmax(axis=1)
    assert np.mean(nearest == [example["label"] for example in digits["test"][:200]]) > 0.9


def test_speakers_differ():
    from data import espeak_digits

    everyone = [name for names in espeak_digits.SPEAKERS.values() for name in names]
    sounds = espeak_digits.speak([espeak_digits.Utterance(f"en-us+{name}", "nine", 150, 50, 50) for name in everyone])
    examples = [{"audio": sound} for sound in sounds]
    alike = spectra(examples) @ spectra(examples).T - np.eye(62)
    assert alike.max() < 0.9999


def test_digits_are_resampled(sets):
    from scipy import signal as scipy_signal

    sounds = [example["audio"] for example in stored(sets, "test")]
    x = array(load("espeak_digits", data_dir=sets, sample_rate_hz=11_025, peak_normalize=False).test)
    assert x.shape == (500, 11_025, 1)
    expected = [scipy_signal.resample_poly(sound / 2**15, 1, 2)[:11_025] for sound in sounds]
    np.testing.assert_allclose(x[7, : len(expected[7]), 0], expected[7], atol=1e-6)


def test_preparing_twice_gives_the_same_bytes_without_network(few, tmp_path, no_network):
    copies = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        splits = load("espeak_digits", data_dir=str(tmp_path / name))
        assert [int(dataset.cardinality()) for dataset in splits] == [40, 20, 20]
        files = sorted((tmp_path / name).rglob("*tfrecord*"))
        copies.append({file.name: file.read_bytes() for file in files})
    assert len(copies[0]) == 3
    assert copies[0] == copies[1]
    assert not no_network


def some(count=3):
    from data import espeak_digits

    return espeak_digits.utterances("train")[:count]


SPEAK = "import json, os, struct, sys\nfor _ in {}: os.write(1, struct.pack('<Ihh', 4, 0, {}))"
PROGRAMS = {
    "import sys; sys.exit('the package espeakng-loader is missing')": "the package espeakng-loader is missing",
    "import os, signal; os.write(1, bytes(9)); os.kill(os.getpid(), signal.SIGSEGV)": "was ended by SIGSEGV",
    "import sys; sys.stderr.write('first\\nlast\\n'); sys.exit(3)": "the synthesis failed: last",
    "import os; os._exit(3)": "failed with exit status 3",
    "import time; time.sleep(60)": "has not finished within 1 s",
    "pass": "gave no sound",
    SPEAK.format("json.load(sys.stdin)", 0): "gave no sound",
    SPEAK.format("json.load(sys.stdin)[1:]", 9): "gave no sound",
}


@pytest.mark.parametrize(("program", "expected"), PROGRAMS.items())
def test_a_synthesis_that_fails_is_a_sentence(program, expected, few, tmp_path, monkeypatch):
    from data import espeak_digits

    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(espeak_digits, "PROGRAM", tmp_path / "program.py")
    monkeypatch.setattr(espeak_digits, "LIMIT_SECONDS", 1)
    assert expected in sentence("espeak_digits", data_dir=str(tmp_path))
    assert not list((tmp_path / "espeak_digits").glob("1.0.0"))


def test_an_interrupted_synthesis_leaves_no_process(tmp_path, monkeypatch):
    from data import espeak_digits

    program = tmp_path / "program.py"
    program.write_text(f"import os, time\nopen({str(tmp_path / 'id')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    monkeypatch.setattr(espeak_digits, "PROGRAM", program)

    def interrupt(*args):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            espeak_digits.speak(some())
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Lets the program find modules in a folder before all others."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("raise ImportError('gone')", r"the package espeakng-loader is missing or damaged \(gone\): pip install"),
        ("def get_data_path(): raise RuntimeError('no data')", "missing or damaged .no data"),
        ("get_data_path = lambda: '/'\nget_library_path = lambda: '/nope.so'", "missing or damaged .*nope.so"),
    ],
)
def test_a_missing_or_damaged_library(module, expected, beside):
    from data import espeak_digits
    from data.pipeline import DataError

    (beside / "espeakng_loader.py").write_text(module)
    with pytest.raises(DataError, match=expected):
        espeak_digits.speak(some())


def loader_with(folder, **changes):
    """A module espeakng_loader that is the real one but for these functions' results (Python expressions)."""
    import espeakng_loader

    functions = {"get_data_path": repr(espeakng_loader.get_data_path()),
                 "get_library_path": repr(espeakng_loader.get_library_path()), **changes}  # fmt: skip
    lines = [f"def {name}(): return {result}" for name, result in functions.items()]
    (folder / "espeakng_loader.py").write_text("import os\n" + "\n".join(lines))


def test_data_that_the_library_cannot_read(beside):
    from data import espeak_digits
    from data.pipeline import DataError

    (beside / "espeak-ng-data").mkdir()
    loader_with(beside, get_data_path=repr(str(beside / "espeak-ng-data")))
    with pytest.raises(
        DataError, match=f"eSpeak NG cannot read {beside}/espeak-ng-data: pip install --force-reinstall"
    ):
        espeak_digits.speak(some())


def test_a_data_path_beyond_the_librarys_limit(beside):
    import espeakng_loader

    from data import espeak_digits

    expected = espeak_digits.speak(some())
    long = beside / ("x" * 100) / ("y" * 100)
    long.mkdir(parents=True)
    (long / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    loader_with(beside, get_data_path=repr(str(long / "espeak-ng-data")))
    for ours, theirs in zip(espeak_digits.speak(some()), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_the_library_prints_is_no_sound(beside):
    from data import espeak_digits

    expected = espeak_digits.speak(some())
    loader_with(beside)
    module = beside / "espeakng_loader.py"
    module.write_text(module.read_text().replace("return", "os.write(1, b'hello'); return"))
    for ours, theirs in zip(espeak_digits.speak(some()), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("voice", ["en-gb+m1", "xx+m1", "en-us+nobody"])
def test_a_voice_that_does_not_exist(voice):
    from data import espeak_digits
    from data.pipeline import DataError

    with pytest.raises(DataError, match=re.escape(f"this eSpeak NG has no voice {voice}")):
        espeak_digits.speak([espeak_digits.Utterance(voice, "one", 150, 50, 50)])


def frequency(sound):
    """Of the voice in the middle of a word, in hertz, by autocorrelation."""
    middle = sound[len(sound) // 2 :][:2048].astype(float)
    periods = np.correlate(middle, middle, "full")[2047:][70:440]
    return 22_050 / (70 + periods.argmax())


def test_speed_and_pitch_are_as_asked():
    from data.espeak_digits import Utterance, speak

    slow, fast = speak([Utterance("en-us+m1", "five", speed, 50, 50) for speed in (110, 190)])
    assert len(slow) > 1.3 * len(fast)
    low, high = (
        frequency(sound) for sound in speak([Utterance("en-us+m1", "four", 150, pitch, 50) for pitch in (20, 80)])
    )
    assert 50 < 1.5 * low < high < 300


def test_synthesis_needs_no_tensorflow(beside):
    from data import espeak_digits

    for name in ("tensorflow", "numpy"):
        (beside / f"{name}.py").write_text("raise SystemExit('imported')")
    assert len(espeak_digits.speak(some())) == 3


def test_no_library_is_loaded_into_this_process(digits):
    maps = Path("/proc/self/maps")
    assert not maps.exists() or "libespeak" not in maps.read_text()
