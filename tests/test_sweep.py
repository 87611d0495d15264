"""Sweeps: they survive kills and failures, and none of their runs knows of the others."""

import csv
import gc
import json
import os
import shutil
import signal
import time
import weakref
from subprocess import CompletedProcess

import numpy as np
import pytest
import yaml
from conftest import shared
from filelock import FileLock
from processes import begin, forked

from conf import compose
from conf.checks import check
from telemetry.records import read_metrics
from telemetry.run import Busy, RunDirectory
from telemetry.sweep import Sweep, duration

SWEPT = ["rounding=cubic,uniform_noise", "seed=0,1"]
RUNS = [[rounding, seed] for rounding in ("rounding=cubic", "rounding=uniform_noise") for seed in ("seed=0", "seed=1")]


@pytest.fixture(scope="module")
def words(data_dir):
    """What all runs share."""
    short = ["epochs=2", "batch_size=500", "latent.units=4", "model.widths=[32]", "threads=1"]
    return [*short, f"data.data_dir={data_dir}"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, words):
    """A sweep of four runs: the folder that it ran in, its outcome."""
    with shared(tmp_path_factory, "sweep") as folder:
        outcome = folder / "outcome.json"
        if not outcome.exists():
            result = forked("-m", *SWEPT, *words, folder=folder)
            outcome.write_text(json.dumps([result.returncode, result.stdout, result.stderr]))
        return folder, CompletedProcess(SWEPT, *json.loads(outcome.read_text()))


def directory(words):
    """Of a run, relative to where its command runs."""
    return RunDirectory(check(compose(words))).path


def rows(folder):
    """The table of the one sweep in a folder."""
    (path,) = folder.glob("runs/sweeps/*/runs.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def stop(number, path, *words, folder):
    """Sends a signal to `python train.py <words>` as soon as the run in `path` has an epoch behind it."""
    process = begin(words, folder, folder.parent)
    deadline = time.monotonic() + 600
    while not read_metrics(folder / path / "metrics.csv"):
        assert process.is_alive(), (folder.parent / "2").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, number)
    process.join()
    assert not (folder / path / "result.json").exists(), "it was too late"
    return process.exitcode


def test_a_sweep_says_how_far_it_is(undisturbed):
    folder, result = undisturbed
    assert (result.returncode, result.stderr) == (0, "")
    table = rows(folder)
    assert [(row["run"], row["status"], row["settings"]) for row in table] == [
        (str(number), "finished", " ".join(words)) for number, words in enumerate(RUNS, start=1)
    ]
    assert all(float(row["seconds"]) > 0 for row in table)
    lines = [line for line in result.stdout.splitlines() if line.startswith("run ") and " of 4: " in line]
    assert [line.split(" (")[0] for line in lines] == [f"run {n + 1} of 4: {' '.join(RUNS[n])}" for n in range(4)]
    first = f"{float(table[0]['val_loss']):.4g} {table[0]['settings']}"
    assert " left; " in lines[1]
    assert lines[1].endswith(f"; best so far {first})")
    (log,) = folder.glob("runs/sweeps/*/sweep.log")
    assert all(line in log.read_text() for line in lines)
    assert {path.name for path in log.parent.iterdir()} - {".lock"} == {"sweep.log", "runs.csv", "multirun.yaml"}
    assert {path.name for path in (folder / "runs").iterdir()} == {"sweeps", "mnist_5k"}


def test_a_sweep_goes_on_after_a_kill_to_the_same_end(undisturbed, words, tmp_path):
    expected, _ = undisturbed
    paths = [directory([*run, *words]) for run in RUNS]
    assert stop(signal.SIGKILL, paths[1], "-m", *SWEPT, *words, folder=tmp_path) == -signal.SIGKILL
    first = (tmp_path / paths[0] / "result.json").stat().st_mtime_ns
    assert not (tmp_path / paths[2]).exists()
    last = forked("-m", *SWEPT, *words, folder=tmp_path)
    assert (last.returncode, last.stderr) == (0, "")
    assert "1 of them are there already" in last.stdout
    assert (tmp_path / paths[0] / "result.json").stat().st_mtime_ns == first
    assert {path.parent.relative_to(tmp_path) for path in tmp_path.rglob("result*.json")} == set(paths)
    assert [bool(row["seconds"]) for row in rows(tmp_path)] == [False, True, True, True]
    for path, row, other in zip(paths, rows(tmp_path), rows(expected), strict=True):
        assert (tmp_path / path / "metrics.csv").read_bytes() == (expected / path / "metrics.csv").read_bytes()
        assert {**row, "seconds": ""} == {**other, "seconds": ""}
        ours, theirs = (json.loads((folder / path / "result.json").read_text()) for folder in (tmp_path, expected))
        assert ours["test_loss"] == theirs["test_loss"]


def test_a_run_in_a_sweep_is_bit_equal_to_the_same_run_alone(undisturbed, words, tmp_path):
    folder, _ = undisturbed
    path = directory([*RUNS[3], *words])
    assert forked(*RUNS[3], *words, folder=tmp_path).returncode == 0
    assert (tmp_path / path / "metrics.csv").read_bytes() == (folder / path / "metrics.csv").read_bytes()


def test_what_fails_is_a_row_and_the_others_go_on(words, tmp_path):
    unstable = ["latent=integer", "latent.levels=null", "latent.normalize=false"]
    swept = ["optimizer.learning_rate=0.001,1e30", "seed=0,-1,2"]
    crashing = check(compose(["optimizer.learning_rate=0.001", "seed=0", *unstable, *words]))
    path = tmp_path / RunDirectory(crashing).path
    (path / "metrics.csv").mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(crashing))
    busy = tmp_path / directory(["optimizer.learning_rate=1e30", "seed=2", *unstable, *words])
    busy.mkdir(parents=True)
    with FileLock(busy / ".lock"):
        result = forked("-m", *unstable, *swept, *words, folder=tmp_path)
    table = rows(tmp_path)
    assert [row["status"] for row in table] == ["failed", "failed", "finished", "diverged", "failed", "busy"]
    assert [row["val_loss"] == "inf" for row in table] == [True, True, False, True, True, True]
    reasons = [row["reason"] for row in table]
    assert reasons[0].startswith("IsADirectoryError: ")
    assert reasons[1] == reasons[4] == "seed must be an integer from 0 to 2147483647, got -1"
    assert reasons[2] == ""
    assert reasons[3].startswith("the loss is no number any more in epoch 1")
    assert "is being written by another process" in reasons[5]
    assert (result.returncode, result.stderr) == (1, "error: 4 of 6 runs failed\n")
    assert "2 of them will fail: seed must be" in result.stdout
    for number in (1, 2, 4, 5):
        assert result.stdout.count(f"\n  run {number} {table[number - 1]['status']}: ") == 1
    stored = [json.loads((tmp_path / row["path"] / "result.json").read_text()) for row in (table[0], table[3])]
    assert [(one["status"], one["reason"]) for one in stored] == [("failed", reasons[0]), ("diverged", reasons[3])]
    (log,) = tmp_path.glob("runs/sweeps/*/sweep.log")
    for text in ((path / "train.log").read_text(), log.read_text()):
        assert "Traceback" in text
    assert [item.name for item in busy.iterdir()] == [".lock"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45])
def test_pictures_of_a_run_about_to_diverge_do_not_end_it(value):
    from telemetry import pictures
    from telemetry.rendering import pixels

    last = {name: np.full((50, 4), value, "float32") for name in ("z", "u", "dL_dcode", "dL_du")}
    means = {name: np.full((4, 20), value, "float32") for name in ("share", "dL_dcode", "dL_du")}
    for figure in (pictures.histograms(last), pictures.staircase(means)):
        assert pixels(figure).std() > 0


def test_a_run_that_another_process_finishes_meanwhile_is_left_alone(train_small, small_run, tmp_path, monkeypatch):
    import train

    def build_slowly(cfg, real=train.build):
        shutil.copytree(small_run[0], tmp_path / "run")
        return real(cfg)

    monkeypatch.setattr(train, "build", build_slowly)
    with pytest.raises(Busy, match="has just been finished by another process"):
        train_small()
    assert [path.name for path in tmp_path.rglob("result*.json")] == ["result.json"]


def test_the_same_sweep_twice_at_once_is_one_too_many(words, tmp_path):
    folder = tmp_path / "runs/sweeps/seed=0,1,epochs=7"
    folder.mkdir(parents=True)
    (folder / "runs.csv").write_text("run,status\n1,finished\n")
    with FileLock(folder / ".lock"):
        result = forked("-m", "seed=0,1", "epochs=7", folder=tmp_path)
    assert (result.returncode, result.stderr) == (
        1,
        "error: another process is at this sweep, runs/sweeps/seed=0,1,epochs=7: wait for it to end\n",
    )
    assert (folder / "runs.csv").read_text() == "run,status\n1,finished\n"


def test_a_changed_configuration_is_another_run(undisturbed, words, monkeypatch):
    folder, _ = undisturbed
    monkeypatch.chdir(folder)
    sweep = Sweep()
    changes = [["batch_size=400"], ["rounding.power=5"], ["epochs=4"], ["resume=false"], ["loss=squared_error"]]
    sweep.runs = [[*RUNS[0], *words], *([*RUNS[0], *words, *change] for change in changes)]
    assert sweep._look() == []
    assert sweep.to_do == {2, 3, 4, 5}, "the last one changes nothing"


def test_a_damaged_result_is_named(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = directory(words)
    path.mkdir(parents=True)
    (path / "result.json").write_text('{"status": "fin')
    sweep = Sweep()
    sweep.runs = [words]
    assert sweep._look() == [f"{path}/result.json is damaged: delete it, and the same command goes on with the run"]


def test_nothing_of_a_run_survives_in_memory(train_small, monkeypatch):
    from tensorflow.python.framework.func_graph import FuncGraph

    import train

    objects, graphs = [], []

    def build(cfg, real=train.build):
        splits, trainer = real(cfg)
        objects.extend(weakref.ref(item) for item in (trainer, trainer.autoencoder, trainer.optimizer))
        return splits, trainer

    monkeypatch.setattr(train, "build", build)
    for seed in range(2):
        train_small("rounding=cubic", f"seed={seed}", "epochs=1", output=f"run{seed}")
        gc.collect()
        graphs.append(sum(isinstance(item, FuncGraph) for item in gc.get_objects()))
    assert len(objects) == 6
    assert [item() for item in objects] == [None] * 6
    assert graphs[0] >= graphs[1], "only those of the last run, until the next one starts"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (6000, "1.7 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
