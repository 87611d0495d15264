"""Runs of a sweep side by side, in processes of their own."""

import importlib.util
import os
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT, members
from hydra.errors import MissingConfigException

from conf import compose
from conf.checks import check
from conf.errors import LAUNCHERS, sentence
from telemetry.records import read_metrics
from telemetry.run import RunDirectory

PACKAGES = {name: package.replace("-", "_") for name, package in LAUNCHERS.items()}
PACKAGES |= {"ray_cluster": PACKAGES["ray"], "slurm": PACKAGES["submitit_slurm"]}

PARALLEL = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.fixture
def words(data_dir):
    """What all runs share."""
    return ["epochs=2", "batch_size=500", "latent.units=4", "model.widths=[32]", f"data.data_dir={data_dir}"]


def launcher_threads(*words):
    """The threads of a run that `hydra/launcher=...` starts."""
    return check(compose(words))["threads"]


def test_launchers_divide_the_cores_among_their_runs(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert launcher_threads() is None
    assert launcher_threads("hydra/launcher=joblib") == 1
    assert launcher_threads("hydra/launcher=joblib", "hydra.launcher.n_jobs=7") == 1
    assert launcher_threads("hydra/launcher=joblib", "threads=5") == 5
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT")
    import joblib

    assert launcher_threads("hydra/launcher=joblib", "hydra.launcher.n_jobs=1") == joblib.cpu_count()


@pytest.mark.parametrize("name", members("hydra/launcher"))
def test_launchers_of_a_cluster_give_each_run_its_threads(name):
    pytest.importorskip(f"hydra_plugins.{PACKAGES[name]}")
    assert launcher_threads(f"hydra/launcher={name}") == 2


@pytest.mark.parametrize("name", [*LAUNCHERS, *members("hydra/launcher")])
def test_a_launcher_that_is_not_installed_says_what_to_install(name):
    if importlib.util.find_spec(f"hydra_plugins.{PACKAGES[name]}"):
        pytest.skip("it is installed")
    with pytest.raises(MissingConfigException) as caught:
        compose([f"hydra/launcher={name}"])
    expected = f"is in a package of its own: pip install {PACKAGES[name].replace('_', '-')}"
    assert sentence(caught.value, []).endswith(expected)


def test_a_launcher_that_does_not_exist_is_one_sentence():
    with pytest.raises(MissingConfigException) as caught:
        compose(["hydra/launcher=slum"])
    assert sentence(caught.value, []).startswith("hydra/launcher=slum does not exist: did you mean slurm? choose from")


def test_workers_end_when_the_sweep_is_killed(words, tmp_path):
    endless = [word.replace("epochs=2", "epochs=100000") for word in words]
    process = psutil.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *PARALLEL, "seed=0,1", *endless],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
    )
    path = tmp_path / RunDirectory(check(compose(endless))).path
    deadline = time.monotonic() + 300
    while not read_metrics(path / "metrics.csv"):
        assert process.is_running()
        assert time.monotonic() < deadline
    workers = process.children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert alive == []
    assert not (path / "result.json").exists()
