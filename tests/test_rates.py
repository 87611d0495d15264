"""Rate and distortion: what is counted against files on disk, baselines against libsndfile, Pillow and scikit-learn."""

import io
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from omegaconf import OmegaConf
from PIL import Image
from scipy import stats

import codec
from coding import baselines, rate_report, rates
from coding.baselines import LOSSLESS, Mosaic, Pca
from conf.checks import ConfigError

RATE_HZ = 8000


def clips(count, samples, seed=0):
    """Swept tones that swell and fade, float32 `[count, samples, 1]`."""
    draw = np.random.default_rng(seed)
    t = np.arange(samples) / RATE_HZ
    waves = [np.sin(2 * np.pi * (draw.uniform(100, 900) + 400 * t) * t) for _ in range(count)]
    noise = 0.003 * draw.standard_normal((count, samples))
    return (0.9 * np.stack(waves) * np.sin(np.pi * t / t[-1]) + noise).astype(np.float32)[..., None]


def blobs(count, seed=0):
    """Smooth spots, float32 `[count, 13, 10, 1]` of whole 255ths."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:13, :10]
    centres = draw.uniform(2, 8, (count, 2, 1, 1))
    spots = np.exp(-((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2) / draw.uniform(3, 20, (count, 1, 1)))
    return (np.rint(255 * spots) / 255).astype(np.float32)[..., None]


@pytest.fixture(scope="module")
def images():
    train, test = blobs(60, seed=1), blobs(23)
    return train, test, list(baselines.of_images(train, test))


@pytest.fixture(scope="module")
def sounds():
    train, test = clips(10, 4010, seed=1), clips(5, 4010)
    return train, test, list(baselines.of_audio(train, test, RATE_HZ))


def one(coded, name, setting):
    (found,) = [each for each in coded if (each.name, each.setting) == (name, setting)]
    return found


def error(coded, test):
    return float(np.mean((coded.x_hat - test) ** 2))


def test_mu_law_is_that_of_g711():
    x = np.linspace(-1, 1, 4001, dtype=np.float32)
    file = io.BytesIO()
    soundfile.write(file, x, RATE_HZ, format="WAV", subtype="ULAW")
    file.seek(0)
    g711, _ = soundfile.read(file)
    ours = baselines.expand(baselines.levels(baselines.quantised(baselines.compress(x), 8), 8))
    # G.711 has straight segments for the curve: its steps are within a factor of 2 of ours.
    step = (1 + 255 * np.abs(x)) * math.log(256) / 255 / 127
    assert np.all(np.abs(ours - x) <= 0.51 * step)
    assert np.all(np.abs(ours - g711) <= 1.5 * step)
    np.testing.assert_allclose(baselines.expand(baselines.compress(x)), x, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_quantised_keeps_silence_and_the_ends(bits):
    x = np.array([-1, 0, 1], np.float32)
    codes = baselines.quantised(x, bits)
    assert codes.tolist() == [0, 2 ** (bits - 1) - 1, 2**bits - 2]
    np.testing.assert_array_equal(baselines.levels(codes, bits), x)


@pytest.mark.parametrize("shape", [(1, 8, 8), (7, 13, 10), (12, 9, 28)])
def test_one_picture_of_all(shape):
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    whole = Mosaic(shape)
    picture = whole.join(pixels)
    assert not any(side % 8 for side in picture.shape)
    np.testing.assert_array_equal(picture[: shape[1], : shape[2]], pixels[0])
    np.testing.assert_array_equal(whole.part(picture), pixels)


def test_files_of_images_are_as_large_as_on_disk(images, tmp_path):
    _, test, coded = images
    for name, options in {"PNG": {}, "JPEG": {"quality": 50}}.items():
        for number, pixels in enumerate(np.rint(255 * test[..., 0]).astype(np.uint8)):
            Image.fromarray(pixels).save(tmp_path / f"{number}.{name}", name, optimize=True, **options)
        sizes = [path.stat().st_size for path in tmp_path.glob(f"*.{name}")]
        found = one(coded, f"{name}, file each", "q50" if options else LOSSLESS)
        assert found.size == sum(sizes)
        decoded = [np.asarray(Image.open(tmp_path / f"{number}.{name}")) for number in range(len(test))]
        np.testing.assert_allclose(found.x_hat[..., 0], np.stack(decoded) / 255, atol=1e-7)


def test_few_bits_are_the_nearest_grey_levels(images):
    _, test, coded = images
    for bits in (1, 2, 4):
        steps = 2**bits - 1
        np.testing.assert_allclose(
            one(coded, "PNG, few bits, one picture", f"{bits} bits").x_hat, np.rint(test * steps) / steps, atol=1e-6
        )


@pytest.mark.parametrize("medium", ["images", "sounds"])
def test_baselines(medium, request):
    _, test, coded = request.getfixturevalue(medium)
    assert len({each[:2] for each in coded}) == len(coded)
    for each in coded:
        assert each.x_hat.shape == test.shape
        assert each.x_hat.dtype == np.float32
        assert np.abs(each.x_hat).max() <= 1
        assert each.size > 0 or each.name == "PCA"
        if each.setting == LOSSLESS:
            np.testing.assert_allclose(each.x_hat, test, atol=2e-5)
    for name in {each.name for each in coded}:
        curve = sorted((each.size, error(each, test)) for each in coded if each.name == name)
        errors = [loss for _, loss in curve]
        assert errors[-1] == min(errors), name
        assert len(errors) == 1 or errors[0] > errors[-1], name


def test_sound_formats_are_in_time_and_counted_whole(sounds):
    _, test, coded = sounds
    for name in ("Opus", "Vorbis", "FLAC", "GSM 6.10", "ADPCM, G.721"):
        best = max((each for each in coded if each.name == name), key=lambda each: each.size)
        assert error(best, test) < 0.05 * np.mean(test**2), name
    seconds = test.size / RATE_HZ
    (gsm,) = [each for each in coded if each.name == "GSM 6.10"]
    assert gsm.size == pytest.approx(13_000 / 8 * seconds, rel=0.03)  # and a header of 60 bytes
    assert one(coded, "mu-law", "8 bits").size == test.size
    assert one(coded, "PCM", LOSSLESS).size == 2 * test.size


def test_a_rate_that_a_format_does_not_have_is_left_out(caplog):
    names = {each.name for each in baselines.of_audio(clips(2, 600), clips(2, 600), 11_111)}
    assert "Opus" not in names
    assert "FLAC" in names
    assert "Opus is left out at 11111 Hz" in caplog.text


def test_entropy_coded_pcm_costs_its_entropy(sounds):
    train, test, coded = sounds
    largest = 31
    counts = np.bincount(np.rint(largest * train).astype(int).ravel() + largest, minlength=64) + 0.5
    p = counts / counts.sum()
    bits = -np.log2(p[np.rint(largest * test).astype(int) + largest]).sum()
    assert bits <= 8 * one(coded, "PCM, range coder", "6 bits").size <= bits + 64


def test_pca_is_that_of_scikit_learn():
    from sklearn.decomposition import PCA

    draw = np.random.default_rng(0)
    mixing = draw.standard_normal((6, 6)) * [5, 3, 2, 0.01, 0.01, 0.01]
    train, test = (draw.standard_normal((n, 6)) @ mixing.T + 3 for n in (500, 40))
    step = 1.0
    other = PCA().fit(train)
    expected = other.inverse_transform(step * np.rint(other.transform(test) / step))
    size, x_hat = Pca(train, test).coded(step)
    np.testing.assert_allclose(x_hat, expected, atol=1e-4)
    assert 0 < size < 40 * 6
    assert Pca(train, test).coded(1e6)[0] == 0


def add_untrained_run(path, words):
    """What a training leaves that codec.py reads."""
    import tensorflow as tf

    from conf import compose
    from telemetry.metrics import si_sdr_db
    from telemetry.results import code_statistics
    from telemetry.run import RunDirectory
    from train import build

    cfg = compose([*words, f"output_dir={path}"])
    splits, trainer = build(cfg)
    run, model, test = RunDirectory(OmegaConf.to_container(cfg, resolve=True)), trainer.autoencoder, splits.test
    with run.claim():
        model.save_weights(path / "best.weights.h5")
        code_statistics(trainer, splits.train).save(path)
        (path / "metrics.csv").write_text("epoch,val_loss\n1,0.5\n")
        x_hat, code = model(test), tf.round(model.encode(test)).numpy()
        columns = code.reshape(-1, code.shape[-1]).T
        result = {
            "test_loss": float(tf.reduce_mean(trainer.error(test, x_hat))),
            "test_si_sdr": float(tf.reduce_mean(si_sdr_db(test, x_hat))),
            "bits_per_example": code.shape[1]
            * sum(stats.entropy(np.unique(c, return_counts=True)[1], base=2) for c in columns),
        }
        run.write_result({"status": "finished", "epochs": cfg.epochs, "val_loss": 0.5, **result, "config": run.config})


@pytest.fixture(scope="module")
def runs(small_run, tmp_path_factory):
    """A folder with a run of images twice, of two seeds to all appearances, one of audio, and one that can't code."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copytree(small_run[0], folder / "images/0")
    shutil.copytree(small_run[0], folder / "images/1")
    for name in ("result.json", "config.yaml"):
        path = folder / "images/1" / name
        path.write_text(re.sub(r'("?seed"?): 0', r"\1: 1", path.read_text()))
    (folder / "sounds").mkdir()
    for number, clip in enumerate(clips(30, 512)):
        soundfile.write(folder / "sounds" / f"{number}.wav", clip, RATE_HZ)
    words = ["data=folder_audio", f"data.path={folder / 'sounds'}", "data.clip_seconds=0.064", "model.strides=[8,8]"]
    words += ["data.sample_rate_hz=8000", "model.channels=[4,8]", "model.dilations=[1]", "latent.units=3"]
    add_untrained_run(folder / "audio", words)
    shutil.copytree(folder / "images/0", folder / "old")
    (folder / "old/code_statistics.npz").unlink()
    return folder


@pytest.fixture(scope="module")
def reported(runs, tmp_path_factory):
    """What the command writes."""
    output = tmp_path_factory.mktemp("output") / "new/rates"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "JPEG_QUALITIES", (50,))
        patch.setattr(baselines, "WEBP_QUALITIES", (50,))
        patch.setattr(baselines, "STEPS_OF_AUDIO", (0.1,))
        patch.setattr(baselines, "AUDIO_FORMATS", baselines.AUDIO_FORMATS[-1:])
        patch.setattr(baselines, "MOST_PIXELS", 100)
        codec.main(["rates", f"runs={runs}", f"output={output}"])
    return output


def test_runs_are_measured_as_they_were_tested(runs, reported):
    table = pd.read_csv(reported / "rates.csv")
    measured = table[table["is_run"]].set_index("path")
    assert {*measured.index} == {"images/0", "images/1", "audio"}
    for path, row in measured.iterrows():
        result = json.loads((runs / path / "result.json").read_text())
        assert row["loss"] == pytest.approx(result["test_loss"], rel=1e-4)
        for name in ("psnr", "si_sdr"):
            if f"test_{name}" in result:
                assert row[name] == pytest.approx(result[f"test_{name}"], abs=1e-3)
        # The header has 32 bytes, and a list of the sounds; the range coder ends with a few words.
        ideal, bits = (row[key] * row["examples"] for key in ("ideal_bits", "bits"))
        assert ideal < bits - 8 * 32 < ideal + 8 * 40
        assert row["alone_bits"] > row["ideal_bits"] + 8 * 32
        # No coder beats the entropy of what it codes; statistics of the training set cost a little more.
        assert row["ideal_bits"] > result["bits_per_example"] * 0.999
    assert measured.loc["images/0", "nominal_bits"] == 8
    assert measured.loc["audio", "nominal_bits"] == pytest.approx(8 * 3 * math.log2(7))


def test_report(reported):
    assert {path.name for path in reported.iterdir()} == {
        "rates.csv",
        "rates.md",
        "mnist_5k_squared_error.png",
        "folder_audio_spectral.png",
    }
    text = (reported / "rates.md").read_text()
    assert "## mnist_5k_squared_error" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| 2 levels |")]
    assert line.startswith("| 2 levels | 8 units | 2 |")
    for picture in reported.glob("*.png"):
        assert Image.open(picture).size[0] == 1350


def test_an_older_run_is_named(runs, caplog):
    assert len(rates.find(runs)) == 3
    assert f"{runs}/old has no code_statistics.npz" in caplog.text


def test_no_run(tmp_path):
    with pytest.raises(ConfigError, match="holds no finished run that can code"):
        codec.main(["rates", f"runs={tmp_path}", f"output={tmp_path / 'rates'}"])
    assert not list(tmp_path.iterdir())


def test_a_decoder_that_errs_is_told(runs, monkeypatch):
    run = next(run for run in rates.find(runs) if run.is_image)
    decoder = rates.bitstream.Decoder
    monkeypatch.setattr(decoder, "read", lambda self, count: np.zeros((count, 8), np.int32))
    with pytest.raises(ValueError, match="not what was encoded"):
        rates.of_run(run, np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype(np.float32), None)


def rows_of(bits, losses, seconds, **changes):
    common = {"field": "a", "is_run": True, "family": "4 levels", "setting": "8 units", "units": 8, "levels": 4}
    rates_ = {"ideal_bits": 10.0, "nominal_bits": 16.0, "alone_bits": 400.0, "seconds": seconds}
    return [{**common, **rates_, "bits": b, "loss": loss, **changes} for b, loss in zip(bits, losses, strict=True)]


def test_means_over_seeds_and_seconds():
    table = pd.DataFrame([*rows_of([20.0, 30.0], [0.1, 0.3], 0.5), *rows_of([7.0], [0.9], math.nan, field="b")])
    first, second = rate_report.means(table).to_dict("records")
    assert (first["runs"], first["bits"], first["ideal_bits"]) == (2, 50.0, 20.0)
    assert first["loss"] == pytest.approx(0.2)
    assert (second["runs"], second["bits"]) == (1, 7.0)


def test_figure_has_every_point_at_its_place():
    baseline = {"field": "a", "is_run": False, "family": "JPEG", "setting": "q5", "bits": 90.0, "loss": 0.05}
    table = pd.DataFrame(
        [
            *rows_of([20.0], [0.2], math.nan),
            *rows_of([25.0], [0.3], math.nan, family="2 levels"),
            baseline,
            {**baseline, "family": "PNG", "setting": LOSSLESS, "bits": 95.0, "loss": 0.0},
        ]
    )
    (axis,) = rate_report.figure("a", rate_report.means(table)).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert lines["4 levels"] == [[20.0, 0.2]]
    assert [[10.0, 0.2]] in [line.get_xydata().tolist() for line in axis.lines if line.get_mfc() == "white"]
    assert lines["2 levels"] == [[25.0, 0.3]]
    assert lines["JPEG"] == [[90.0, 0.05]]
    assert "PNG" not in lines
    assert "PNG, lossless" in {text.get_text() for text in axis.texts}
    low, high = axis.get_xlim()
    assert low < 10
    assert high > 95
