"""compare.py on run directories made by hand, against numbers worked out with NumPy."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from conf import compose

VAL_LOSSES = np.random.default_rng(0).uniform(0.01, 0.02, (2, 2, 3))  # rounding, latent, seed


def add_run(path, rounding, latent, seed, val_loss, settings=(), **changes):
    path.mkdir(parents=True)
    config = compose([f"rounding={rounding}", f"latent={latent}", f"seed={seed}", *settings])
    result = {
        "status": "finished",
        "val_loss": val_loss,
        "val_soft_loss": val_loss / 2,
        "test_loss": val_loss + 0.001,
        "test_psnr": 18.0,
        "bits_per_example": 64.0,
        "code_usage": 0.5,
        "config": OmegaConf.to_container(config),
        **changes,
    }
    (path / "result.json").write_text(json.dumps(result))
    rows = [f"{epoch},{val_loss * 3 / epoch},0\n" for epoch in (1, 2, 3)]
    (path / "metrics.csv").write_text("epoch,val_loss,val_gap\n" + "".join(rows))


@pytest.fixture
def runs(tmp_path):
    for i, rounding in enumerate(["hard", "cubic"]):
        for j, latent in enumerate(["binary", "integer"]):
            for seed in range(3):
                path = tmp_path / "runs" / latent / rounding / f"seed={seed}"
                add_run(path, rounding, latent, seed, VAL_LOSSES[i, j, seed])
    return tmp_path / "runs"


def cells(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def compare(folder, *words):
    line = [sys.executable, str(ROOT / "compare.py"), *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=folder)


def test_table_and_curves(runs, tmp_path):
    result = compare(tmp_path)
    assert result.returncode == 0, result.stderr
    table = (tmp_path / "comparison" / "table.md").read_text()
    assert table in result.stdout
    rows = cells(table)
    assert rows[0][:4] == ["latent", "rounding", "runs", "hard test loss"]
    assert len(rows) == 2 + 4
    for latent, rounding, count, test, _, val, *_ in rows[2:]:
        i, j = ["`hard`", "`cubic`"].index(rounding), ["`binary`", "`integer`"].index(latent)
        losses = VAL_LOSSES[i, j]
        assert count == "3"
        assert test == f"{losses.mean() + 0.001:.4f} ± {losses.std(ddof=1):.4f}"
        assert val == f"{losses.mean():.4f} ± {losses.std(ddof=1):.4f}"
    assert [row[0] for row in rows[2:]] == ["`binary`", "`binary`", "`integer`", "`integer`"]
    assert rows[2][3] < rows[3][3]
    assert rows[4][3] < rows[5][3]
    assert (tmp_path / "comparison" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


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
    assert compare(tmp_path).returncode == 0
    rows = cells((tmp_path / "comparison" / "table.md").read_text())
    assert rows[0][:3] == ["settings", "rounding", "runs"]
    found = {row[0]: (row[2], row[3]) for row in rows[2:]}
    assert found["`rounding.alpha=7`"] == ("2", "0.0210 ± 0.0000")
    assert found["`epochs=9`"] == ("2", "0.0310 ± 0.0000")
    assert found[""][0] == "4"


def test_images_and_audio_side_by_side(runs, tmp_path):
    audio = {"test_psnr": None, "test_si_sdr": 8.5, "test_log_spectral_distance": 3.25, "bits_per_second": 2000.0}
    for seed in range(2):
        path = tmp_path / "runs" / "audio" / f"seed={seed}"
        add_run(path, "hard", "integer", seed, 0.3, ["data=espeak_digits"], val_gap=0.05, **audio)
    result = compare(tmp_path, "by=rounding", "metric=val_loss")
    assert result.returncode == 0, result.stderr
    header, _, *rows = cells((tmp_path / "comparison" / "table.md").read_text())
    assert header[:4] == ["data", "model", "latent", "loss"]
    tables = [dict(zip(header, row, strict=True)) for row in rows]
    spoken = [row for row in tables if row["data"] == "`espeak_digits`"]
    assert len(spoken) == 1
    assert len(tables) == 5
    assert spoken[0]["test SI-SDR, dB"] == "8.50 ± 0.00"
    assert spoken[0]["test log-spectral distance, dB"] == "3.25 ± 0.00"
    assert spoken[0]["bits/s"] == "2000 ± 0"
    assert spoken[0]["val gap"] == "0.0500 ± 0.0000"
    assert spoken[0]["test PSNR, dB"] == ""
    assert {row["test SI-SDR, dB"] for row in tables if row is not spoken[0]} == {""}


def test_what_did_not_finish_is_named_and_left_out(runs, tmp_path):
    add_run(runs / "x" / "seed=0", "ramp", "binary", 0, 1.0, status="diverged", reason="no number")
    add_run(runs / "y" / "seed=0", "ramp", "binary", 0, 1.0)
    (runs / "y" / "seed=0" / "result.json").write_text('{"status": "fini')
    add_run(runs / "z" / "seed=0~1", "ramp", "binary", 0, 1.0)
    result = compare(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "left out: runs/x/seed=0 diverged (no number)" in result.stdout
    assert "left out: runs/y/seed=0/result.json is not a whole result" in result.stdout
    assert "12 runs" in result.stdout
    assert "ramp" not in (tmp_path / "comparison" / "table.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs=nowhere"], "error: runs=nowhere holds no finished run that fits"),
        (["where.latent=octal"], "error: runs=runs holds no finished run that fits"),
        (["by=colour"], "error: by=colour: choose from data, model, latent, rounding, loss"),
        (["metric=beauty"], "error: metric=beauty is no column of"),
    ],
)
def test_mistakes_are_one_sentence(runs, tmp_path, words, message):
    result = compare(tmp_path, *words)
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
