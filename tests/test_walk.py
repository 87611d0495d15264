"""The walk through the latent: paths, distances and entropies by other means, and what it leaves on disk."""

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_RUNS
from omegaconf import OmegaConf

import codec
from conf.checks import ConfigError


@pytest.fixture(params=TINY_RUNS, ids=lambda run: run[0], scope="module")
def walked(request, tiny_run, tmp_path_factory):
    """A run's folder, and that of its walk."""
    folder, path = tiny_run(*request.param), tmp_path_factory.mktemp("walk") / "out"
    codec.main(["inspect", f"run={folder}", f"output={path}"])
    return folder, path


def test_units_are_measured(walked):
    """Against the whole set at once, in the autoencoder itself."""
    from coding import stored
    from coding.walk import splits_of

    folder, path = walked
    cfg = OmegaConf.load(folder / "config.yaml")
    run = stored.load(folder)
    splits, autoencoder = splits_of(run), run.model()
    code = np.round(autoencoder.encode(splits.validation)).astype(int)
    table = pd.read_csv(path / "units.csv")
    assert table["unit"].tolist() == list(range(6))
    levels = cfg.latent.get("levels", 2)
    for unit, row in table.iterrows():
        taken, counts = np.unique(code[..., unit], return_counts=True)
        share = counts / counts.sum()
        np.testing.assert_allclose(row["bits"], -(share * np.log2(share)).sum(), atol=1e-5)
        assert row["codes_used"] == len(taken)
        assert share[taken == row["commonest_code"]] == share.max()
        np.testing.assert_allclose(row["commonest_share"], share.max(), rtol=1e-5)
        np.testing.assert_allclose(row["bits_possible"], np.log2(levels) if levels else np.nan, rtol=1e-5)

    few = code[:64]
    x_hat = autoencoder.decode(few.astype("float32")).numpy()
    for unit in (0, 5):
        stepped = few.copy()
        for example, decoded in zip(stepped, x_hat, strict=True):
            frames = len(example) if example.ndim == 2 else 1
            energy = [part @ part for part in np.array_split(decoded.ravel(), frames)]
            place = (int(np.argmax(energy)), unit) if example.ndim == 2 else unit
            example[place] += -1 if levels and example[place] == levels - 1 else 1
        change = autoencoder.decode(stepped.astype("float32")) - x_hat
        np.testing.assert_allclose(table["effect"][unit], np.sqrt(np.mean(change**2)), rtol=1e-4)


def test_what_it_leaves(walked):
    from PIL import Image

    folder, path = walked
    cfg = OmegaConf.load(folder / "config.yaml")
    audio = "sample_rate_hz" in cfg.data
    pictures = {"usage", "steps", "interpolation", "neighbours"}
    if not audio and cfg.latent.get("levels", 2) != 2:
        pictures.add("sweeps")
    assert {file.stem for file in path.glob("*.png")} == pictures
    for name in pictures:
        assert Image.open(path / f"{name}.png").size[0] == 1350
    text = (path / "latent.html").read_text()
    assert text.count("data:image/png") == len(pictures)
    sounds = [*path.glob("*.wav")]
    assert text.count("data:audio/wav") == len(sounds)
    assert bool(sounds) == audio
    assert {file.suffix for file in path.iterdir()} <= {".png", ".html", ".csv", ".wav"}
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("first", [2, -50])
def test_paths_are_straight_and_take_turns(first):
    from coding.walk import path_of

    rng = np.random.default_rng(0)
    a, b = rng.integers(first, first + 2 if first == 2 else 50, (2, 3, 8), dtype=np.int32)
    order = rng.permutation(8)
    path = path_of(a, b, order, 101)
    np.testing.assert_array_equal(path[0], a)
    np.testing.assert_array_equal(path[-1], b)
    t = np.linspace(0, 1, 101)[:, None, None]
    assert np.abs(path - ((1 - t) * a + t * b)).max() < 1
    assert not np.any(np.sign(np.diff(path, axis=0)) * np.sign(b - a) < 0)
    np.testing.assert_array_equal(path_of(b, a, order, 101)[-1], a)


def test_bits_flip_one_after_the_other_and_evenly():
    from coding.walk import path_of

    a, b = np.zeros(13, np.int32), np.ones(13, np.int32)
    flipped = path_of(a, b, np.arange(13), 1001).sum(axis=1)
    assert set(np.diff(flipped)) == {0, 1}
    assert np.abs(flipped / 13 - np.linspace(0, 1, 1001)).max() < 0.12


def test_nearest_codes():
    from coding.walk import nearest

    rng = np.random.default_rng(0)
    among = rng.integers(-3, 4, (50, 2, 5), dtype=np.int32)
    codes = rng.integers(-3, 4, (3, 2, 5), dtype=np.int32)
    for code, (numbers, far) in zip(codes, nearest(codes, among, 7), strict=True):
        distances = [sum(abs(int(i) - int(j)) for i, j in zip(code.flat, other.flat, strict=True)) for other in among]
        assert far.tolist() == sorted(distances)[:7]
        assert [distances[number] for number in numbers] == far.tolist()
        assert len(set(numbers)) == 7


def test_swept_codes_leave_out_the_rarest():
    from coding.walk import counts_of, swept_codes

    codes = np.repeat(np.arange(-300, 301, dtype=np.int32), 10)[:, None]
    swept = swept_codes(counts_of(codes), 16)
    assert len(swept) == 16
    assert -300 < swept[0] <= -290
    assert 290 <= swept[-1] < 300
    np.testing.assert_array_equal(swept_codes(counts_of(codes % 4), 16), range(4))
    np.testing.assert_array_equal(swept_codes(counts_of(codes * 0 + 7), 16), [7])


def test_data_that_are_gone(tiny_run, tmp_path):
    model, latent = next(run for run in TINY_RUNS if run[0].startswith("audio"))
    folder = tiny_run(model, latent)
    moved = folder.parent / "elsewhere"
    (folder.parent / "sounds").rename(moved)
    try:
        with pytest.raises(ConfigError, match=r"^data=folder_audio: .*sounds") as caught:
            codec.main(["inspect", f"run={folder}", f"output={tmp_path / 'out'}"])
    finally:
        moved.rename(folder.parent / "sounds")
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("units", [1, 16, 40])
def test_pictures_of_any_size(units, monkeypatch):
    """As many rows as there are units, up to the most that are drawn, each with a label."""
    from coding import pictures

    monkeypatch.setattr(pictures, "UNITS", 30)
    rng = np.random.default_rng(0)
    kinds = [(pictures.Images((4, 6)), (5, 4, 6), (5, 4, 6, 1)), (pictures.Sounds(800), (5, 90), (5, 400, 1))]
    for kind, excerpt, shape in kinds:
        _, figure = kind.effects(rng.uniform(size=shape), rng.normal(size=(units, *excerpt)), np.arange(units))
        labels = {tick.get_text() for axis in figure.axes for tick in axis.get_yticklabels()}
        assert labels & {f"{unit}" for unit in range(30, units)} == set()
        assert {f"{unit}" for unit in range(min(units, 30))} <= labels


def test_the_gist(walked):
    from coding import stored
    from coding.walk import summary

    folder, path = walked
    run, table = stored.load(folder), pd.read_csv(path / "units.csv")
    bits, unused, strongest, weakest = summary(table, run)
    positions = np.prod(run.statistics.positions)
    assert f" {positions * table['bits'].sum():,.1f} " in bits
    assert ("possible" in bits) == table["bits_possible"].notna().all()
    assert ("none" in unused) == (table["codes_used"] > 1).all()
    assert f"RMS): {table['effect'].idxmax()} (" in strongest
    assert f"weakest: {table['effect'].idxmin()} (" in weakest
    assert weakest.count("(") == 3
