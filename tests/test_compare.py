"""compare.py on run directories made by hand, against numbers worked out with NumPy."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

VAL_LOSSES = np.random.default_rng(0).uniform(0.01, 0.02, (2, 2, 3))  # rounding, latent, seed


def add_run(path, rounding, latent, seed, val_loss, **changes):
    path.mkdir(parents=True)
    choices = {"data": "mnist_5k", "model": "image_mlp", "latent": latent, "rounding": rounding, "experiment": None}
    result = {
        "status": "finished",
        "val_loss": val_loss,
        "val_soft_loss": val_loss / 2,
        "test_loss": val_loss + 0.001,
        "bits_per_example": 64.0,
        "code_usage": 0.5,
        "seconds": 30.0,
        "config": {"choices": choices, "seed": seed},
        **changes,
    }
    (path / "result.json").write_text(json.dumps(result))
    (path / "metrics.csv").write_text(
        "epoch,val_loss,val_gap\n" + "".join(f"{e},{val_loss * 3 / e},0\n" for e in (1, 2, 3))
    )


@pytest.fixture
def runs(tmp_path):
    for i, rounding in enumerate(["hard", "cubic"]):
        for j, latent in enumerate(["binary", "integer"]):
            for seed in range(3):
                path = tmp_path / "runs" / latent / rounding / f"seed={seed}"
                add_run(path, rounding, latent, seed, VAL_LOSSES[i, j, seed])
    return tmp_path / "runs"


def compare(folder, *words):
    line = [sys.executable, str(ROOT / "compare.py"), *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=folder)


def test_table_and_curves(runs, tmp_path):
    result = compare(tmp_path)
    assert result.returncode == 0, result.stderr
    table = (tmp_path / "comparison" / "table.md").read_text()
    assert table in result.stdout
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    assert rows[0][:4] == ["latent", "rounding", "runs", "hard test loss"]
    assert len(rows) == 2 + 4
    for latent, rounding, count, test, val, *_ in rows[2:]:
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
        (["by=colour"], "error: by=colour: choose from data, model, latent, rounding"),
        (["metric=beauty"], "error: metric=beauty is no column of"),
    ],
)
def test_mistakes_are_one_sentence(runs, tmp_path, words, message):
    result = compare(tmp_path, *words)
    assert result.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
