"""compare.py on run directories made by hand, against numbers worked out with NumPy and SciPy."""

import base64
import functools
import html.parser
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from omegaconf import OmegaConf
from scipy import stats

from compare import KEYS
from compare import compare as compare_runs
from conf import compose
from telemetry.comparison import curves, drawing, pictures, reconstructions, statistics
from telemetry.comparison.runs import overall, panels_of, read_runs

VAL_LOSSES = np.random.default_rng(0).uniform(0.01, 0.02, (2, 2, 3))  # rounding, latent, seed
EPOCHS = np.array([1, 2, 3])
LAYERS = {"decoder_10_dense": 0.1, "decoder_2_dense": 1.0, "encoder_1_dense": 0.01, "latent": 0.001}


@functools.cache
def configuration(*words):
    return json.dumps(OmegaConf.to_container(compose(words)))


def add_run(path, rounding, latent, seed, val_loss, settings=(), metrics=True, **changes):
    """A whole run; `status=None` leaves it without a result."""
    path.mkdir(parents=True)
    config = {**json.loads(configuration(f"rounding={rounding}", f"latent={latent}", *settings)), "seed": seed}
    (path / "config.yaml").write_text(json.dumps(config))  # which is YAML, too, and quicker
    result = {
        "status": "finished",
        "val_loss": val_loss,
        "val_soft_loss": val_loss / 2,
        "val_gap": val_loss / 2,
        "test_loss": val_loss + 0.001,
        "test_psnr": 18.0,
        "bits_per_example": 64.0,
        "code_usage": 0.5,
        "transmission": 0.25,
        "seconds": 40.0,
        "config": config,
        **changes,
    }
    if result["status"]:
        (path / "result.json").write_text(json.dumps(result))
    if metrics:
        columns = {"val_loss": val_loss * 3 / EPOCHS, "val_gap": 0.0 * EPOCHS}
        columns |= {f"gradient_norm/layer/{name}": norm + 0 * EPOCHS for name, norm in LAYERS.items()}
        columns["gradient_flow/transmission"] = 0.25 + 0 * EPOCHS
        pd.DataFrame(columns, index=pd.Index(EPOCHS, name="epoch")).to_csv(path / "metrics.csv")


def add_reconstructions(path, x, x_hat):
    np.savez_compressed(path / "reconstructions.npz", x=x, x_hat=x_hat, code=np.zeros((len(x), 4), np.int32))


@pytest.fixture
def runs(tmp_path):
    x = np.random.default_rng(1).uniform(size=(10, 28, 28, 1)).astype(np.float32)
    for i, rounding in enumerate(["hard", "cubic"]):
        for j, latent in enumerate(["binary", "integer"]):
            for seed in range(3):
                path = tmp_path / "runs" / latent / rounding / f"seed={seed}"
                add_run(path, rounding, latent, seed, VAL_LOSSES[i, j, seed])
                add_reconstructions(path, x, np.full_like(x, 0.25 * (i + 1)))
    return tmp_path / "runs"


def cells(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]


def table_in(folder):
    header, _, *rows = cells((folder / "table.md").read_text())
    return [dict(zip(header, row, strict=True)) for row in rows]


def half_width(values):
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return (high - low) / 2


def panels(folder, by="rounding"):
    found = read_runs(folder, {})
    shown = found[found["status"].isin(["finished", "running"])]
    return panels_of(shown, [key for key in KEYS if key != by], by)


def compare(folder, *words, options=()):
    line = [sys.executable, *options, str(ROOT / "compare.py"), *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=folder, env={**os.environ, "COLUMNS": "300"})


def test_command_prints_and_writes_everything_without_tensorflow(runs, tmp_path):
    result = compare(tmp_path, options=["-X", "importtime"])
    assert result.returncode == 0, result.stdout
    assert "telemetry.comparison" in result.stderr
    assert not {"tensorflow", "keras"} & {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    rows = table_in(tmp_path / "comparison")
    assert [row["latent"] for row in rows] == ["`binary`", "`binary`", "`integer`", "`integer`"]
    for row in rows:
        i, j = ["`hard`", "`cubic`"].index(row["rounding"]), ["`binary`", "`integer`"].index(row["latent"])
        losses = VAL_LOSSES[i, j] + 0.001
        assert row["runs"] == "3"
        assert row["hard test loss"] == f"{losses.mean():.4f} ± {half_width(losses):.4f}"
        assert row["val gap"] == f"{VAL_LOSSES[i, j].mean() / 2:.4f}"
        shown = [row["rounding"].strip("`"), *list(row.values())[2:]]
        assert " ".join(filter(None, shown)) in " ".join(result.stdout.split())
    for first, second in [rows[:2], rows[2:]]:
        assert first["hard test loss"] < second["hard test loss"]
        assert first["p vs best"] == "best"
    for name in ("learning_curves", "loss_against_bits", "gradient_flow", "reconstructions"):
        assert (tmp_path / "comparison" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "12 finished runs; written to comparison/" in result.stdout


def test_terminal_table_fits_the_terminal(runs, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("COLUMNS", "60")
    caplog.set_level(logging.INFO)
    compare_runs(runs, {"latent": "binary"}, "rounding", "val_loss", tmp_path / "out")
    head = caplog.text.partition("Best hard test loss first")[0]
    assert "(a wider terminal shows" in head
    lines = [line for line in head.splitlines() if line.startswith(("hard", "cubic", "rounding"))]
    assert len(lines) == 3
    assert max(map(len, lines)) <= 60
    assert len(table_in(tmp_path / "out")[0]) == 10


def test_csv_has_the_statistics_of_scipy(runs, tmp_path):
    compare_runs(runs, {}, "rounding", "val_loss", tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "table.csv").set_index(["latent", "rounding"])
    for j, latent in enumerate(["binary", "integer"]):
        p = stats.ttest_rel(*VAL_LOSSES[:, j]).pvalue
        for i, rounding in enumerate(["hard", "cubic"]):
            row, losses = rows.loc[latent, rounding], VAL_LOSSES[i, j] + 0.001
            best = VAL_LOSSES[i, j].mean() < VAL_LOSSES[1 - i, j].mean()
            assert row["test_loss_mean"] == pytest.approx(losses.mean())
            assert row["test_loss_std"] == pytest.approx(losses.std(ddof=1))
            assert row["test_loss_ci95"] == pytest.approx(half_width(losses))
            assert row[["runs", "seeds", "test_loss_count", "val_gap_count"]].tolist() == [3, 3, 3, 3]
            assert np.isnan(row["p"]) if best else row["p"] == pytest.approx(p)
            assert np.isnan(row["p_holm"]) if best else row["p_holm"] == pytest.approx(p)


def test_paired_test_is_over_the_seeds_that_both_have():
    best, other = pd.Series([1.0, 2.0, 4.0], [0, 1, 2]), pd.Series([7.0, 2.5, 1.5, 9.0], [2, 1, 0, 5])
    assert statistics.paired_p(best, other) == pytest.approx(stats.ttest_rel([1, 2, 4], [1.5, 2.5, 7]).pvalue)
    assert statistics.paired_p(best, best) == 1
    assert statistics.paired_p(best, best + 1) == 0
    assert np.isnan(statistics.paired_p(best, other[[2, 5]]))
    assert np.isnan(statistics.half_width(best[:1]))


def test_holm_is_the_step_down_procedure():
    p = np.array([np.nan, 0.04, 0.01, 0.03, 0.5, np.nan])
    corrected = statistics.holm(p)
    np.testing.assert_allclose(corrected, [np.nan, 0.09, 0.04, 0.09, 0.5, np.nan])
    for level in (0.02, 0.05, 0.1, 0.6):  # rejected one after the other, until the first that is not
        rejected, tests = set(), np.sort(p[np.isfinite(p)])
        for done, value in enumerate(tests):
            if value > level / (len(tests) - done):
                break
            rejected.add(value)
        assert set(p[corrected <= level]) == rejected
    np.testing.assert_allclose(statistics.holm(np.array([0.9, 0.8])), [1, 1])


def test_significance_in_the_table(tmp_path):
    noise = np.random.default_rng(2).normal(0, 1e-4, 5)
    for seed in range(5):
        for rounding, loss in [
            ("cubic", 0.01 + noise[seed]),
            ("custom_gradient", 0.01 + noise[seed]),
            ("sine", 0.02 - noise[seed] / 3),
            ("cosine", 0.0102 + noise[seed - 1]),
        ]:
            add_run(tmp_path / "runs" / f"{rounding}-{seed}", rounding, "binary", seed, loss)
    add_run(tmp_path / "runs" / "hard", "hard", "binary", 0, 0.03)
    compare_runs(tmp_path / "runs", {}, "rounding", "val_loss", tmp_path)
    p = {row["rounding"].strip("`"): row["p vs best"] for row in table_in(tmp_path)}
    cosine = 2 * stats.ttest_rel(0.01 + noise, 0.0102 + np.roll(noise, 1)).pvalue
    assert p == {
        "cubic": "best",
        "custom_gradient": "1.000",
        "cosine": f"{cosine:.3f}" + (" *" if cosine < 0.05 else ""),
        "sine": "<0.001 *",
        "hard": "",
    }


def test_the_best_has_the_best_mean_over_seeds(tmp_path):
    losses = {"cubic": {0: 0.010, 1: 0.030}, "sine": {0: 0.019, 1: 0.019}}
    for rounding, by_seed in losses.items():
        for seed, loss in by_seed.items():
            for again in range(5 if seed == 0 else 1):  # cubic's mean over runs is 0.0133
                add_run(tmp_path / "runs" / f"{rounding}-{seed}-{again}", rounding, "binary", seed, loss)
    compare_runs(tmp_path / "runs", {}, "rounding", "val_loss", tmp_path)
    first, second = table_in(tmp_path)
    assert (first["rounding"], first["p vs best"]) == ("`sine`", "best")
    assert [row["hard test loss"].split()[0] for row in (first, second)] == ["0.0200", "0.0210"]


def test_where_and_by_select(runs, tmp_path):
    result = compare(tmp_path, "where.rounding=hard", "by=latent", "metric=val_gap", "output=out")
    assert result.returncode == 0, result.stderr
    table = (tmp_path / "out" / "table.md").read_text()
    assert "cubic" not in table
    assert table.startswith("| latent | runs |")


def test_other_settings_are_not_other_seeds(tmp_path):
    for number, settings in enumerate([[], ["rounding.alpha=7"], ["epochs=9"], ["threads=1"]]):
        for seed in range(2):
            add_run(tmp_path / "runs" / f"{number}-{seed}", "soft_round", "binary", seed, 0.01 * (number + 1), settings)
    compare_runs(tmp_path / "runs", {}, "rounding", "val_loss", tmp_path)
    found = {row["settings"]: (row["runs"], row["hard test loss"]) for row in table_in(tmp_path)}
    assert found["`rounding.alpha=7`"] == ("2", "0.0210 ± 0.0000")
    assert found["`epochs=9`"] == ("2", "0.0310 ± 0.0000")
    assert found["`defaults`"] == ("4", "0.0260 ± 0.0000")  # the same seed twice is no sample of its own
    compare_runs(tmp_path / "runs", {}, "settings", "val_loss", tmp_path)
    assert [row["settings"] for row in table_in(tmp_path)] == ["`rounding.alpha=7`", "`defaults`", "`epochs=9`"]


def test_images_and_audio_side_by_side(runs, tmp_path):
    audio = {"test_psnr": None, "test_si_sdr": 8.5, "test_log_spectral_distance": 3.25, "bits_per_second": 2000.0}
    for seed in range(2):
        path = runs / "audio" / f"seed={seed}"
        add_run(path, "hard", "integer", seed, 0.3, ["data=espeak_digits"], **{**audio, "val_gap": -0.00001})
        clips = np.sin(2 * np.pi * 1000 / 8000 * np.arange(8000))[None, :, None].repeat(5, axis=0)
        add_reconstructions(path, clips, clips / 2)
    compare_runs(runs, {}, "rounding", "val_loss", tmp_path / "out")
    tables = table_in(tmp_path / "out")
    assert list(tables[0])[:4] == ["data", "model", "latent", "loss"]
    spoken = [row for row in tables if row["data"] == "`espeak_digits`"]
    assert len(spoken) == 1
    assert len(tables) == 5
    assert spoken[0]["test SI-SDR, dB"] == "8.50"
    assert spoken[0]["test log-spectral distance, dB"] == "3.25"
    assert spoken[0]["bits/s"] == "2000"
    assert spoken[0]["val gap"] == "0.0000"
    assert spoken[0]["test PSNR, dB"] == ""
    assert {row["test SI-SDR, dB"] for row in tables if row is not spoken[0]} == {""}


@pytest.fixture
def broken(runs):
    """Beside the good ones: what did not finish, what can't be read, and what was moved aside."""
    add_run(runs / "a" / "seed=0", "ramp", "binary", 0, 1.0, status="diverged", reason="no number")
    add_run(runs / "b" / "seed=0", "sine", "binary", 0, 1.0, status=None)
    add_run(runs / "c" / "seed=0", "sine", "binary", 0, 1.0, status=None, metrics=False)
    add_run(runs / "d" / "seed=0", "ramp", "binary", 0, 1.0)
    add_run(runs / "e" / "seed=0", "ramp", "binary", 0, 1.0, metrics=False)
    add_run(runs / "g" / "seed=0", "ramp", "binary", 0, 1.0, test_loss=None)
    add_run(runs / "h" / "seed=0", "ramp", "binary", 0, 1.0)
    add_run(runs / "i" / "seed=0~1", "ramp", "binary", 0, 1.0)
    (runs / "d" / "seed=0" / "result.json").write_text('{"status": "fini')
    (runs / "h" / "seed=0" / "result.json").write_text('{"status": "failed", "reason": "OSError: <disk> full"}')
    (runs / "j").mkdir()
    (runs / "j" / "train.log").touch()
    with (runs / "b" / "seed=0" / "metrics.csv").open("a") as file:
        file.write("4,0.0")  # and was killed
    return runs


def test_what_did_not_finish_is_listed(broken, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    compare_runs(broken, {}, "rounding", "val_loss", tmp_path / "out")
    texts = [caplog.text, (tmp_path / "out" / "table.md").read_text(), visible_text(tmp_path / "out")]
    for text in texts:
        assert f"diverged: {broken}/a/seed=0 (no number)" in text
        assert f"running: {broken}/b/seed=0 (3 of 60 epochs" in text
        assert f"running: {broken}/c/seed=0 (0 of 60 epochs" in text
        assert f"broken: {broken}/d/seed=0 (JSONDecodeError" in text
        assert f"broken: {broken}/e/seed=0 (FileNotFoundError" in text
        assert f"broken: {broken}/g/seed=0 (" in text
        assert f"failed: {broken}/h/seed=0 (OSError: <disk> full)" in text
        assert f"broken: {broken}/j (FileNotFoundError" in text
        assert "seed=0~1" not in text
    assert "12 finished, 4 broken, 2 running, 1 diverged, 1 failed runs" in caplog.text
    assert {row["rounding"] for row in table_in(tmp_path / "out")} == {"`hard`", "`cubic`"}


def test_where_applies_to_what_did_not_finish(broken):
    found = read_runs(broken, {"rounding": "sine"})
    assert sorted(found["status"].unique()) == ["broken", "running"]


def test_running_runs_alone(broken, tmp_path):
    compare_runs(broken, {"rounding": "sine"}, "rounding", "val_loss", tmp_path)
    assert table_in(tmp_path) == []
    assert (tmp_path / "learning_curves.png").exists()
    assert not (tmp_path / "gradient_flow.png").exists()


def test_curves_are_means_over_seeds(broken):
    shown = panels(broken)
    figure = curves.learning_curves(shown, "rounding", "val_loss", overall(shown))
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["binary", "integer"]
    for j, axis in enumerate(figure.axes):
        assert axis.get_yscale() == "log"
        lines = {line.get_label(): line for line in axis.lines}
        for i, rounding in enumerate(["hard", "cubic"]):
            values = 3 * VAL_LOSSES[i, j][:, None] / EPOCHS
            np.testing.assert_array_equal(lines[rounding].get_xdata(), EPOCHS)
            np.testing.assert_allclose(lines[rounding].get_ydata(), values.mean(axis=0))
            bands = [band.get_paths()[0].get_extents() for band in axis.collections if band.get_paths()]
            highest = (values.mean(axis=0) + values.std(axis=0, ddof=1)).max()
            assert any(band.y1 == pytest.approx(highest) for band in bands)
        texts = {text.get_text().split()[1 if text.get_text()[0] in "▲▼" else 0] for text in axis.texts}
        assert texts == ({"hard", "cubic", "sine"} if j == 0 else {"hard", "cubic"})
    running = [line for line in figure.axes[0].lines if len(line.get_xdata()) and max(line.get_ydata()) == 3]
    np.testing.assert_allclose(running[0].get_ydata(), [3, 1.5, 1])  # without the row that was being written
    assert any("sine" in text.get_text() and "(running)" in text.get_text() for text in figure.axes[0].texts)


def test_outliers_do_not_squash_the_rest(tmp_path):
    names = ["cubic", "sine", "cosine", "identity", "soft_round", "hard"]
    for number, name in enumerate(names):
        add_run(tmp_path / name, name, "binary", 0, 0.01 * (1 + 0.01 * number) if name != "hard" else 1.0)
    shown = panels(tmp_path)
    axis = curves.learning_curves(shown, "rounding", "val_loss", overall(shown)).axes[0]
    assert axis.get_ylim()[1] < 0.1
    assert [text.get_text() for text in axis.texts if "▲" in text.get_text()] == ["▲ hard 1"]
    styles = {(line.get_color(), line.get_linestyle()) for line in axis.lines if len(line.get_xdata())}
    assert len(styles) == len(names)


def test_labels_are_spread_apart_and_kept_within():
    places = np.array([0.0, 0.01, 0.02, 0.5, 0.99, 1.0])
    spread = drawing.spread(places, 0.05)
    assert (np.diff(spread) >= 0.05 - 1e-12).all()
    assert spread.min() >= 0
    assert spread.max() <= 1 + 1e-12
    assert spread[3] == 0.5
    np.testing.assert_array_equal(drawing.spread(np.array([0.2, 0.4]), 0.1), [0.2, 0.4])
    twenty = drawing.styles([str(i) for i in range(28)]).values()
    assert len({str(style) for style in twenty}) == 28


def test_gradient_flow_has_layers_in_forward_order(runs):
    table = pictures.layer_norms(panels(runs)[0], "rounding")
    assert list(table.index) == ["encoder_1_dense", "latent", "decoder_2_dense", "decoder_10_dense", "transmission"]
    assert list(table.columns) == panels(runs)[0].names
    np.testing.assert_allclose(table["hard"], [0.01, 0.001, 1.0, 0.1, 0.25])
    axis = pictures.gradient_flow(panels(runs), "rounding").axes[0]
    np.testing.assert_allclose(axis.images[0].get_array()[:, 0], [-2, -3, 0, -1])
    order = ["encoder_down_0", "encoder_units", "latent", "decoder_units", "decoder_context_1_out", "decoder_up_0"]
    assert sorted(reversed(order), key=pictures._forward) == order


def test_reconstructions_are_shown_below_their_original(runs):
    shown = panels(runs)[0]
    rows = reconstructions.rows_of(shown, "rounding")
    assert [name for name, _ in rows] == ["original", *shown.names]
    x = np.load(runs / "binary" / "hard" / "seed=0" / "reconstructions.npz")["x"]
    np.testing.assert_allclose(rows[0][1][1:-1, 31:59], x[1, ..., 0])
    assert dict(rows)["hard"].shape == (30, 8 * 30)
    assert dict(rows)["hard"][15, 15] == 0.25
    (runs / "binary" / "hard" / "seed=0" / "reconstructions.npz").write_bytes(b"PK half")
    assert "hard" not in dict(reconstructions.rows_of(shown, "rounding"))
    axis = reconstructions.reconstructions(panels(runs), "rounding").axes[1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["original", *panels(runs)[1].names]


def test_spectrogram_is_as_loud_as_the_sine():
    time = np.arange(8000) / 8000
    for level in (0.0, -30.0):
        picture = reconstructions.spectrogram(10 ** (level / 20) * np.sin(2 * np.pi * 1000 * time))
        assert picture.argmax(axis=0)[60] == 128 - 32  # 32nd of 128 bands of 31.25 Hz, from below
        assert picture[:, 60].max() == pytest.approx(1 + level / 60, abs=0.01)


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def visible_text(folder):
    return "".join(Page((folder / "comparison.html").read_text()).text)


def test_page_is_self_contained(runs, tmp_path):
    compare_runs(runs, {}, "rounding", "val_loss", tmp_path)
    text = (tmp_path / "comparison.html").read_text()
    page = Page(text)
    assert page.open == []
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert not {"link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [attrs for tag, attrs in page.tags if tag == "script" and attrs]
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    files = sorted(path.read_bytes() for path in tmp_path.glob("*.png"))
    assert len(files) == 4
    assert sorted(base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources) == files
    assert sum(tag == "tr" for tag, _ in page.tags) == 1 + 4
    for row in table_in(tmp_path):
        assert {cell.strip("`") for cell in row.values()} <= {part.strip() for part in page.text} | {""}


def test_a_thousand_runs_are_read(tmp_path):
    for number in range(1000):
        name = ["hard", "cubic", "sine", "cosine"][number % 4]
        add_run(tmp_path / str(number), name, "binary", number // 4, 0.01 + 1e-5 * number)
    shown = panels(tmp_path)
    assert len(shown[0].finished) == 1000
    ranking = statistics.ranking(shown, "rounding", ["test_loss"])
    assert ranking["seeds"].tolist() == [250] * 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs=nowhere"], "error: runs=nowhere holds no finished run that fits"),
        (["where.latent=octal"], "error: runs=runs holds no finished run that fits"),
        (["by=colour"], "error: by must be one of data, model, latent, rounding, loss, settings, got 'colour'"),
        (["runs=null"], "error: runs must be a text that is not empty, got null"),
        (["runs=3"], "error: runs must be a text that is not empty, got 3"),
        (["output=null"], "error: output must be a text"),
        (["output='runs/binary/hard/seed=0/metrics.csv'"], "error: output=runs/binary/hard/seed=0/metrics.csv cannot"),
        (["output=/proc/here"], "error: output=/proc/here cannot be written"),
        (["metric=[1,2]"], "error: metric must be a text"),
        (["where=null"], "error: where must be a section of keys, got null"),
        (["where.rounding=3"], "error: where.rounding must be null or a text that is not empty, got 3"),
        (["metric=beauty"], "error: metric=beauty is no column of"),
    ],
)
def test_mistakes_are_one_sentence(runs, tmp_path, words, message):
    result = compare(tmp_path, *words)
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert not Path(tmp_path, "comparison").exists()
