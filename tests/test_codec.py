"""Files to codes and back: the bitstream, its container, images, sounds, mistakes."""

import itertools
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT, TINY_RUNS, small, untrained
from omegaconf import OmegaConf
from PIL import Image
from processes import FORKS

import codec
from coding import bitstream, container
from coding.codec import found
from coding.container import Header, Item
from coding.statistics import CodeStatistics
from conf.checks import ConfigError
from telemetry import output

HEADER = Header(b"12345678", 8000, (0, 0), [Item("a/b.wav", 2**40, 0.25), Item("ü.wav", 1, 1.0)])


def statistics(rows, levels):
    """As a training set of these rows would leave them."""
    first = 0 if levels else -9
    counts = [np.bincount(column - first, minlength=levels or 19) for column in rows.T]
    return CodeStatistics.of(np.stack(counts), levels, first, (28, 28, 1), ())


def random_rows(levels, count, units=5, seed=0):
    generator = np.random.default_rng(seed)
    low, high = (0, levels) if levels else (-9, 10)
    shares = generator.dirichlet(np.full(high - low, 0.5), units)
    return np.stack([generator.choice(np.arange(low, high), count, p=share) for share in shares], 1).astype(np.int32)


@pytest.mark.parametrize("levels", [2, 16, 300, None])
@pytest.mark.parametrize("count", [1, 500, 3 * bitstream.BLOCK + 17])
def test_rows_come_back_at_the_ideal_length(levels, count):
    rows, seen = random_rows(levels, count), random_rows(levels, 4000, seed=0)
    counted = statistics(seen, levels)
    data = bitstream.encode(rows, counted)
    decoder = bitstream.Decoder(data, count, counted)
    parts = [decoder.read(part) for part in (1, (count - 1) // 3, count - 1 - (count - 1) // 3)]
    np.testing.assert_array_equal(np.concatenate(parts), rows)

    symbols = counted.counts.shape[1] + (levels is None)
    ideal = 0.0
    for column, among in zip(rows.T, seen.T, strict=True):
        share = {code: (np.sum(among == code) + 0.5) / (4000 + symbols / 2) for code in np.unique(column)}
        ideal -= sum(np.log2(share[code]) for code in column)
    np.testing.assert_allclose(bitstream.ideal_bits([rows], counted), ideal)
    assert 8 * len(data) <= 1.02 * ideal + 64  # whole words


@pytest.mark.parametrize("far", [-(2**31), -10, 10, 2**31 - 1])
def test_codes_never_seen(far):
    rows = random_rows(None, 50)
    counted = statistics(rows, None)
    rows[[7, 8, 20], [0, 0, 3]] = far
    data = bitstream.encode(rows, counted)
    np.testing.assert_array_equal(bitstream.Decoder(data, 50, counted).read(50), rows)
    ideal = bitstream.ideal_bits([rows], counted)
    assert ideal < 8 * len(data) <= 1.02 * ideal + 64  # whole words


def test_codes_that_do_not_exist():
    rows = random_rows(4, 50)
    with pytest.raises(ValueError, match="4 does not exist"):
        bitstream.encode(np.full_like(rows, 4), statistics(rows, 4))


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        HEADER._replace(items=HEADER.items[:1]),
        Header(b"abcdefgh", 0, (28, 30), [Item("")]),
        Header(b"abcdefgh", 0, (28, 30), [Item(f"{n}.png") for n in range(1000)]),
        Header(b"abcdefgh", 44100, (0, 0), [Item("", 12, 0.5)]),
        Header(b"abcdefgh", 0, (28, 30), [Item("not UTF-8 \udcff.png")]),
    ],
)
def test_header_comes_back(header):
    assert container.unpack(container.pack(header, b"codes"), Path("x")) == (header, b"codes")


def test_any_changed_bit_is_told():
    data = container.pack(HEADER, bytes(range(40)))
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ConfigError, match=r"damaged|no file of codes|version"):
            container.unpack(bytes(changed), Path("x"))


def test_any_missing_or_further_byte_is_told():
    data = container.pack(HEADER, bytes(range(40)))
    for other in [*(data[:length] for length in range(len(data))), data + b"\0", data[:20] + data[21:]]:
        with pytest.raises(ConfigError, match=r"damaged|no file of codes"):
            container.unpack(other, Path("x"))


@pytest.mark.parametrize("change", [{"items": []}, {"items": HEADER.items * 2}, {"sample_rate_hz": 0}])
def test_a_header_that_contradicts_itself(change, monkeypatch):
    """Though its checksum is right."""
    good = container.pack(HEADER, b"")[container.START.size + container.FIXED.size :]
    other = HEADER._replace(**change)
    monkeypatch.setattr(container.zlib, "compress", lambda *args: good)
    with pytest.raises(ConfigError, match="damaged"):
        container.unpack(container.pack(other, b""), Path("x"))


@pytest.mark.parametrize("name", ["/tmp/x.png", "../x.png", "a/../../x.png"])
def test_names_outside_of_the_folder(name):
    data = container.pack(Header(b"12345678", 0, (28, 28), [Item("a.png"), Item(name)]), b"")
    with pytest.raises(ConfigError, match="outside"):
        container.unpack(data, Path("x"))


def codec_process(*words):
    """The command in a process of its own; returns its exit status."""
    process = FORKS.Process(target=run_codec, args=(words,))
    process.start()
    process.join()
    return process.exitcode


def run_codec(words):
    logging.getLogger("codec").setLevel(logging.INFO)
    codec.main([str(word) for word in words])


IMAGE_RUNS = [run for run in TINY_RUNS if run[0].startswith("image")]


@pytest.mark.parametrize(("model", "latent"), IMAGE_RUNS)
def test_images_are_the_reconstructions_of_evaluation(model, latent, tiny_run, tmp_path, caplog):
    from train import build

    folder = tiny_run(model, latent)
    splits, trainer = build(OmegaConf.load(folder / "config.yaml"))
    trainer.autoencoder.load_weights(folder / "best.weights.h5")
    x = splits.test[:130]
    (tmp_path / "in").mkdir()
    for number, image in enumerate(x.numpy()):
        Image.fromarray(np.rint(255 * image[..., 0]).astype(np.uint8)).save(tmp_path / f"in/{number:03}.png")
    codes, out = tmp_path / "codes.rt", tmp_path / "out"
    run_codec(["encode", f"run={folder}", f"input={tmp_path / 'in'}", f"output={codes}"])
    said = caplog.text
    assert codec_process("decode", f"run={folder}", f"input={codes}", f"output={out}") == 0

    x_hat = trainer.autoencoder(np.pad(x, [(0, 500 - 130), (0, 0), (0, 0), (0, 0)]))[:130]
    decoded = np.stack([np.asarray(Image.open(file)) for file in sorted(out.iterdir())])
    np.testing.assert_allclose(decoded, 255 * np.clip(x_hat[..., 0], 0, 1), atol=0.501)  # rounded to 8 bits
    psnr = -10 * np.log10(np.mean((x[..., 0] - decoded / 255.0) ** 2, axis=(1, 2)))
    assert f"{psnr.mean():.2f} dB" in said
    assert f"{codes.stat().st_size:,} bytes for 130 files" in said


def test_statistics_are_those_of_the_training_set(small_run, data_dir):
    from train import build

    folder, _ = small_run
    splits, trainer = build(small(data_dir, folder))
    trainer.autoencoder.load_weights(folder / "best.weights.h5")
    code = np.round(trainer.autoencoder.encode(splits.train)).astype(int)
    stored = CodeStatistics.load(folder)
    np.testing.assert_array_equal(stored.counts, [np.bincount(column, minlength=2) for column in code.T])
    assert (stored.first, stored.bounded, stored.shape, stored.positions) == (0, True, (28, 28, 1), ())


@pytest.fixture
def digit(tmp_path):
    """A PNG file of other size and colour than the model's."""
    path = tmp_path / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(path)
    return path


def test_one_file(small_run, digit, tmp_path):
    run = f"run={small_run[0]}"
    run_codec(["encode", run, f"input={digit}", f"output={tmp_path / 'new/codes.rt'}"])
    run_codec(["decode", run, f"input={tmp_path / 'new/codes.rt'}", f"output={tmp_path / 'out.png'}"])
    assert Image.open(tmp_path / "out.png").size == (28, 28)
    assert (tmp_path / "new/codes.rt").stat().st_size < 50
    assert {path.name for path in tmp_path.iterdir()} == {"digit.png", "new", "out.png"}


@pytest.mark.parametrize("differs", ["weights", "statistics"])
def test_another_models_codes(differs, small_run, digit, tmp_path):
    folder = small_run[0]
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    if differs == "weights":
        with (other / "best.weights.h5").open("ab") as file:
            file.write(b"other")
    else:
        counted = CodeStatistics.load(other)
        counted._replace(counts=counted.counts + 1).save(other)
    run_codec(["encode", f"run={folder}", f"input={digit}", f"output={tmp_path / 'codes.rt'}"])
    with pytest.raises(ConfigError, match="another model"):
        codec.main(["decode", f"run={other}", f"input={tmp_path / 'codes.rt'}", f"output={tmp_path / 'out.png'}"])


# Sounds


def sound(seconds, rate_hz, loud=0.8, seed=0):
    """Tones that come and go."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    generator = np.random.default_rng(seed)
    tones = sum(np.sin(2 * np.pi * (f * t + p)) for f, p in zip(generator.uniform(90, 900, 5), range(5), strict=True))
    x = tones * (1.1 + np.sin(7 * t))
    return loud * x / np.abs(x).max()


RATE_HZ = 2000


@pytest.fixture(scope="module", params=[0.4, 0.403], ids=["whole frames", "a frame in part"])
def audio_run(request, tmp_path_factory):
    """A run of small models on clips of 800 or 806 samples, 8 a frame, and its configuration."""
    from conf import compose

    folder = tmp_path_factory.mktemp("audio")
    (folder / "sounds").mkdir()
    for number in range(6):
        soundfile.write(folder / "sounds" / f"{number}.wav", sound(1.2, RATE_HZ, seed=number), RATE_HZ)
    words = ["data=folder_audio", f"data.path={folder / 'sounds'}", f"data.sample_rate_hz={RATE_HZ}", "epochs=1"]
    words += [f"data.clip_seconds={request.param}", "model.strides=[2,4]", "model.channels=[4,8]", "batch_size=3"]
    words += ["model.dilations=[1,3]", "latent=integer", "latent.units=3", "loss=squared_error"]
    cfg = compose([*words, f"output_dir={folder / 'run'}"])
    untrained(cfg)
    return cfg, folder / "run"


@pytest.fixture
def sounds(audio_run, monkeypatch):
    """What codes the run's sounds, in short windows."""
    from coding import sounds, stored

    monkeypatch.setattr(sounds, "WINDOW", 40)
    return sounds.Sounds(stored.load(audio_run[1]))


@pytest.mark.parametrize("seconds", [0.001, 0.3, 0.4, 0.403, 0.5, 1.9])
def test_windows_have_no_seams(seconds, audio_run, sounds, tmp_path):
    import tensorflow as tf

    from models.build import make_autoencoder

    file = tmp_path / "x.wav"
    soundfile.write(file, sound(seconds, RATE_HZ), RATE_HZ, "FLOAT")
    (item,) = items = sounds.items([file], ["x.wav"])
    rows = np.concatenate([*sounds.encode([file], items)])
    ((_, parts),) = sounds.decode(items, iter_read(rows))
    decoded = np.concatenate([*parts])

    # The whole sound at once, in a model that is made for its length.
    cfg, folder = audio_run
    x = soundfile.read(file)[0] / item.gain
    clip = round(RATE_HZ * cfg.data.clip_seconds)
    length = next(length for length in itertools.count(clip % 8 or 8, 8) if length >= len(x))
    whole = make_autoencoder(cfg, (length, 1), 1)
    whole.load_weights(folder / "best.weights.h5")
    code = tf.round(whole.encode(np.pad(x, (0, length - len(x)))[None, :, None].astype(np.float32)))
    np.testing.assert_array_equal(rows, code[0])
    expected = np.clip(whole.decode(code)[0, : len(x), 0], -1, 1) * item.gain
    np.testing.assert_allclose(decoded, expected, atol=1e-5)


def iter_read(rows):
    """Gives the next rows, as a decoder does."""
    places = iter(range(len(rows)))
    return lambda count: rows[[*itertools.islice(places, count)]]


def test_silence_stays_silent(sounds, tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(1000), RATE_HZ)
    items = sounds.items([tmp_path / "x.wav"], [""])
    rows = np.concatenate([*sounds.encode([tmp_path / "x.wav"], items)])
    ((_, parts),) = sounds.decode(items, iter_read(rows))
    np.testing.assert_array_equal(np.concatenate([*parts]), np.zeros(1000))


def test_reach_is_no_smaller_than_what_a_code_depends_on(sounds):
    """Here by arithmetic: kernels of 4 x 2 and 2 x 4 samples, residual units of 3 taps, dilated by 1 and 3."""
    assert 4 <= sounds.frames.reach <= 8


@pytest.mark.parametrize("dilations", [[1], [1, 64], [4, 16, 64], [100]])
def test_reach_is_what_a_change_changes(dilations, monkeypatch):
    """Also where a dilated kernel skips more frames than all others see; and windows reach as far."""
    import tensorflow as tf

    from coding import sounds
    from models import audio, latent
    from models.autoencoder import Autoencoder

    encoder, decoder = audio.conv([None, 1], 3, strides=[2, 4], channels=[8, 8], dilations=dilations)
    autoencoder = Autoencoder(encoder, latent.binary(units=3, normalize=False), tf.identity, decoder)
    generator = np.random.default_rng(0)
    for weight in autoencoder.trainable_variables:
        weight.assign(generator.normal(0, 0.3, weight.shape))
    x, code = generator.normal(size=(2, 801 * 8, 1)), generator.normal(size=(2, 801, 3))
    x[1], code[1] = x[0], code[0]
    x[1, 400 * 8 : 401 * 8], code[1, 400] = 1, 9
    u, x_hat = autoencoder.project(x.astype("f4")).numpy(), autoencoder.decode(code.astype("f4")).numpy()
    changed = [np.flatnonzero((u[0] != u[1]).any(axis=-1)), np.flatnonzero(x_hat[0] != x_hat[1]) // 8]
    farthest = max(np.abs(frames - 400).max() for frames in changed)
    assert farthest >= sum(dilations)
    frames = sounds.Frames.of(autoencoder, 800)
    assert frames == (8, 8, farthest)

    monkeypatch.setattr(sounds, "WINDOW", 300)
    for low, first, stop, high in frames.windows(801):
        kept, (start, end) = slice(first - low, stop - low), frames.samples(low, high)
        u_part = autoencoder.project(x[:, start:end].astype("f4"))[:, kept]
        np.testing.assert_allclose(u_part, u[:, first:stop], atol=1e-5 * np.abs(u).max())
        x_part = autoencoder.decode(code[:, low:high].astype("f4"))[:, kept.start * 8 : kept.stop * 8]
        np.testing.assert_allclose(x_part, x_hat[:, first * 8 : stop * 8], atol=1e-5 * np.abs(x_hat).max())


def test_a_full_disk_is_an_error_of_the_file_system(sounds):
    with pytest.raises(OSError, match="full"):
        sounds.write(Path("/dev/full"), iter([np.zeros(100_000)]))


def test_clips_are_the_reconstructions_of_evaluation(audio_run, tmp_path):
    from train import build

    cfg, folder = audio_run
    splits, trainer = build(cfg)
    trainer.autoencoder.load_weights(folder / "best.weights.h5")
    x = np.concatenate([splits.train[:4], splits.test[:1]])
    (tmp_path / "in").mkdir()
    for number, clip in enumerate(x):
        soundfile.write(tmp_path / "in" / f"{number}.wav", clip, RATE_HZ, "FLOAT")
    run_codec(["encode", f"run={folder}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'codes.rt'}"])
    with pytest.raises(ConfigError, match="name of a folder"):
        run_codec(["decode", f"run={folder}", f"input={tmp_path / 'codes.rt'}", f"output={tmp_path / 'out.wav'}"])
    status = codec_process("decode", f"run={folder}", f"input={tmp_path / 'codes.rt'}", f"output={tmp_path / 'out'}")
    assert status == 0
    batches = [x[:3], np.pad(x[3:], [(0, 1), (0, 0), (0, 0)])]
    x_hat = np.concatenate([trainer.autoencoder(batch) for batch in batches])[:5, :, 0]
    decoded = [soundfile.read(tmp_path / "out" / f"{number}.wav")[0] for number in range(5)]
    np.testing.assert_allclose(decoded, np.clip(x_hat, -1, 1), atol=1.6 / 2**15)


def test_a_long_sound_of_another_rate_is_read_in_parts(audio_run, tmp_path, caplog, monkeypatch):
    from coding import sounds
    from data import folder_audio

    monkeypatch.setattr(sounds, "WINDOW", 300)
    part, asked = folder_audio.part, []
    monkeypatch.setattr(folder_audio, "part", lambda *args: asked.append(args[2]) or part(*args))
    file, codes, out = tmp_path / "x.flac", tmp_path / "codes.rt", tmp_path / "out.wav"
    x = np.stack([sound(20, 3000, 0.1), sound(20, 3000, 0.1)], 1)
    soundfile.write(file, x, 3000)
    run_codec(["encode", f"run={audio_run[1]}", f"input={file}", f"output={codes}"])
    run_codec(["decode", f"run={audio_run[1]}", f"input={codes}", f"output={out}"])
    assert max(asked) < 8 * 400
    decoded, rate_hz = soundfile.read(out)
    assert rate_hz == RATE_HZ
    assert len(decoded) == 20 * RATE_HZ
    assert np.abs(decoded).max() < 0.11  # as quiet as it came

    from telemetry.metrics import si_sdr_db

    original = folder_audio.part(str(file), 0, len(decoded), RATE_HZ)
    expected = si_sdr_db(*(a.astype(np.float32)[None, :, None] for a in (original, decoded)))[0]
    assert abs(float(caplog.text.split("SI-SDR")[1].split()[0]) - expected) < 0.02


# Mistakes


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("encoed run=a", "no command encoed: choose from encode, decode"),
        ("encode", "run is missing"),
        ("encode run=a input=b", "output is missing"),
        ("encode run=a input=b output=", "output is missing"),
        ("encode run=a inptu=b output=c", "has no key inptu"),
        ("encode run=a input=7 output=c", "input=7 must be a path; put quotes"),
        ("encode run=[ input=b output=c", "cannot read"),
        ("encode run=${x} input=b output=c", "cannot read"),
        ("encode run=nowhere input=b output=c", "no run's folder"),
        ("decode run={run} input=nowhere output=c.png", "cannot be read"),
        ("decode run={run} input={root}/README.md output=c.png", "no file of codes"),
        ("decode run={run} input={root} output=c.png", "cannot be read"),
        ("encode run={run} input=nowhere output=c", "does not exist"),
        ("encode run={run} input={root}/README.md output=c", "PNG or JPEG"),
        ("encode run={run} input={root}/conf output=c", "holds no PNG or JPEG"),
        ("encode run={run} input={root}/docs/gallery output={root}/README.md", "exists"),
        ("encode run={run} input=b output={root}/README.md/c", "README.md is no folder"),
        ("decode run={run} input=b output={root}/README.md/c/d.png", "README.md is no folder"),
        ("export run=nowhere output={root}/README.md/c", "README.md is no folder"),
        ("inspect run=nowhere output={root}/README.md/c", "README.md is no folder"),
        ("rates runs=nowhere output={root}/README.md", "README.md is no folder"),
    ],
)
def test_mistakes(words, says, small_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = [word.replace("{run}", str(small_run[0])).replace("{root}", str(ROOT)) for word in words.split()]
    with pytest.raises(ConfigError, match=says) as caught:
        codec.main(words)
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_what_came_meanwhile_stays(tmp_path):
    with pytest.raises(ConfigError, match="exists"), output.fresh(tmp_path):
        raise AssertionError
    assert tmp_path.exists()


def test_a_folder_that_is_called_like_an_image(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "a.png/b.png").touch()
    assert found(tmp_path, True) == ([tmp_path / "a.png/b.png"], ["a.png/b.png"])


def test_a_broken_image(small_run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"broken\.png cannot be read as PNG or JPEG"):
        codec.main(["encode", f"run={small_run[0]}", f"input={tmp_path}", f"output={tmp_path / 'codes.rt'}"])
    assert not (tmp_path / "codes.rt").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("result.json", "not finished"), ("code_statistics.npz", "train it again"), ("best.weights.h5", "cannot be read")],
)
def test_a_run_that_lacks_something(name, says, small_run, tmp_path):
    shutil.copytree(small_run[0], tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(ConfigError, match=says):
        codec.main(["decode", f"run={tmp_path / 'run'}", "input=a", "output=b.png"])


def test_a_damaged_run(small_run, tmp_path):
    shutil.copytree(small_run[0], tmp_path / "run")
    (tmp_path / "run/code_statistics.npz").write_bytes(b"PK no zip")
    with pytest.raises(ConfigError, match="damaged"):
        codec.main(["decode", f"run={tmp_path / 'run'}", "input=a", "output=b.png"])
