"""One training on several devices: virtual ones, and two processes. The losses are those of one device."""

import contextlib
import json
import shutil
import socket
import time
from contextlib import closing, contextmanager

import numpy as np
import pytest
from conftest import small
from processes import FORKS, begin
from test_train import FILES, columns, interrupted

from conf import compose
from conf.checks import ConfigError, check
from conf.workers import is_chief
from telemetry.records import read_metrics
from telemetry.run import default_path

# Noise, statistics of the batch, clipping by the norm of all gradients; and validation ends with 2 of 500 examples.
SETTINGS = ["rounding=uniform_noise", "batch_size=498", "optimizer.global_clipnorm=0.01"]


def assert_alike(path, reference):
    """All that two runs measured of training and validation, to rounding."""
    table, expected = columns(path), columns(reference)
    assert table.keys() == expected.keys()
    for column in expected:
        np.testing.assert_allclose(table[column], expected[column], rtol=2e-3, atol=1e-6, err_msg=column)
    for column in ("loss", "val_loss", "val_soft_loss"):
        np.testing.assert_allclose(table[column], expected[column], rtol=1e-5, err_msg=column)


def on_three_devices(function, *arguments):
    """Calls a function of this module in a process whose CPU is three devices."""
    process = FORKS.Process(target=_on_three_devices, args=(function, arguments))
    process.start()
    process.join()
    assert process.exitcode == 0


def _on_three_devices(function, arguments):
    import tensorflow as tf

    devices = [tf.config.LogicalDeviceConfiguration()] * 3
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    function(*arguments)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, data_dir):
    """The folder of a run of two epochs; beside it `killed`, which ended after the first one."""
    from train import train

    folder = tmp_path_factory.mktemp("one")
    with interrupted(1):
        train(small(data_dir, folder / "run", *SETTINGS))
    shutil.copytree(folder / "run", folder / "killed")
    train(small(data_dir, folder / "run", *SETTINGS))
    return folder / "run"


# Devices of one machine


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory, data_dir):
    """The folder with what `train_mirrored` leaves."""
    folder = tmp_path_factory.mktemp("mirrored")
    on_three_devices(train_mirrored, data_dir, folder)
    return folder


def train_mirrored(data_dir, folder):
    """In `run` a run that was interrupted in its second epoch and gone on with."""
    from models import training
    from telemetry.checkpoint import Checkpoint
    from train import build, train

    training.SECONDS_A_CALL = 0.0  # a step a call
    words = [*SETTINGS, "distribute=mirrored", "checkpoint_steps=3"]
    end_steps = Checkpoint.end_steps

    def killed(self, count):
        end_steps(self, count)
        if self.step == 11:
            raise KeyboardInterrupt

    Checkpoint.end_steps = killed
    with pytest.raises(KeyboardInterrupt):
        train(small(data_dir, folder / "run", *words))
    Checkpoint.end_steps = end_steps
    train(small(data_dir, folder / "run", *words))
    with pytest.raises(ConfigError) as caught:
        build(small(data_dir, folder / "refused", "distribute=mirrored"))
    (folder / "refused.txt").write_text(str(caught.value))


def test_mirrored_is_as_one_device_and_goes_on_within_an_epoch(mirrored, one_device):
    log = (mirrored / "run" / "train.log").read_text()
    assert "going on after epoch 1 and 1 of 8 steps" in log
    assert log.count("in 3 replicas") == 2
    assert_alike(mirrored / "run", one_device)


def test_a_batch_that_the_replicas_do_not_divide_is_refused(mirrored):
    told = (mirrored / "refused.txt").read_text()
    assert told == "batch_size=500 must be a multiple of 3, the replicas of distribute=mirrored"


# Several machines


@contextmanager
def workers(folder, *words):
    """Two processes that train together, in folders of their own, each with what it says in `1` and `2`."""
    with contextlib.ExitStack() as ports:
        sockets = [ports.enter_context(closing(socket.socket())) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    processes = []
    for index in range(2):
        place = folder / f"worker{index}"
        place.mkdir(exist_ok=True)
        environment = {"TF_CONFIG": tf_config(addresses, index), "TMPDIR": str(place)}
        processes.append(begin([*words, "distribute=multi_worker"], place, place, **environment))
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def tf_config(addresses, index):
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


def test_two_workers_are_as_one_device_and_go_on_with_its_run(one_device, tmp_path, data_dir):
    """The first worker has the checkpoint of one device's first epoch; the second one has none, and leaves nothing."""
    words = ["epochs=2", "latent.units=8", "model.widths=[32]", f"data.data_dir={data_dir}", "output_dir=run"]
    (tmp_path / "worker0").mkdir()
    shutil.copytree(one_device.with_name("killed"), tmp_path / "worker0" / "run")
    with workers(tmp_path, *words, *SETTINGS) as processes:
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0]
    assert {path.name for path in (tmp_path / "worker0" / "run").iterdir()} - {".lock"} == FILES
    assert "going on after epoch 1 with run, in 2 replicas" in (tmp_path / "worker0" / "1").read_text()
    assert_alike(tmp_path / "worker0" / "run", one_device)
    assert {path.name for path in (tmp_path / "worker1").iterdir()} == {"1", "2"}
    assert [(tmp_path / f"worker{index}" / name).read_text() for index, name in ((0, "2"), (1, "1"), (1, "2"))] == [
        ""
    ] * 3


def test_workers_take_as_many_steps_a_call_as_each_other(data_dir, tmp_path, monkeypatch):
    """Otherwise they wait for each other for good; how many it would be depends on how fast each one is."""
    from data.pipeline import training_batches
    from models import training
    from models.replicas import Replicas, Workers
    from train import build

    monkeypatch.setattr(training, "SECONDS_A_CALL", 1e9)
    splits, trainer = build(small(data_dir, tmp_path / "run"))
    taken = {}
    for replicas in (Replicas(), Workers()):
        trainer.replicas = replicas
        steps = training.Steps(trainer, iter(training_batches(splits.train, 500, 0, 0, 2)))
        taken[type(replicas)] = [steps.take(3) for _ in range(3)]
    assert taken == {Replicas: [1, 3, 3], Workers: [1, 1, 1]}


@pytest.mark.soak
def test_a_worker_that_is_left_alone_says_so(tmp_path, data_dir):
    words = ["epochs=100000", "batch_size=500", "model.widths=[32]", f"data.data_dir={data_dir}", "output_dir=run"]
    with workers(tmp_path, *words) as (chief, worker):
        deadline = time.monotonic() + 120
        while not read_metrics(tmp_path / "worker0" / "run" / "metrics.csv"):
            assert chief.is_alive()
            assert time.monotonic() < deadline
        worker.kill()
        chief.join(120)
        assert chief.exitcode == 1
    errors = (tmp_path / "worker0" / "2").read_text()
    assert errors.startswith("error: another worker is gone (")
    assert errors.endswith("start all of them again, and the run goes on\n")
    assert errors.count("\n") == 1


GOOD = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "3", "{}", *map(json.dumps, (
        {**GOOD, "cluster": {}},
        {**GOOD, "cluster": {"worker": [1, 2]}},
        {**GOOD, "cluster": {"worker": "a:1"}},
        {**GOOD, "cluster": {"worker": ["a:1"]}},
        {**GOOD, "task": {"type": "ps", "index": 0}},
        {**GOOD, "task": {"type": "worker", "index": "1"}},
        {**GOOD, "task": {"type": "chief", "index": 0}},
    ))],
)  # fmt: skip
def test_workers_need_a_tf_config(monkeypatch, content):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if content is not None:
        monkeypatch.setenv("TF_CONFIG", content)
    with pytest.raises(ConfigError, match=r"^distribute=multi_worker needs TF_CONFIG in each worker"):
        check(compose(["distribute=multi_worker"]))


@pytest.mark.parametrize(
    ("cluster", "chiefs"),
    [({"worker": ["a:1", "b:1"]}, [("worker", 0)]), ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, [("chief", 0)])],
)
def test_one_worker_is_the_chief(monkeypatch, cluster, chiefs):
    found = []
    for kind, addresses in cluster.items():
        for index in range(len(addresses)):
            monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
            check(compose(["distribute=multi_worker"]))
            found += [(kind, index)] if is_chief() else []
    assert found == chiefs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["distribute=all"], "distribute must be one of none, mirrored, multi_worker, got 'all'"),
        (["distribute=null"], "distribute must be one of"),
        (["distribute=mirrored", "jit_compile=true"], "leave out jit_compile=true"),
        (["distribute=multi_worker", "evaluate=true"], "evaluate=true is for one machine"),
    ],
)
def test_what_cannot_be_distributed_is_refused(words, expected):
    with pytest.raises(ConfigError) as caught:
        check(compose(words))
    assert expected in str(caught.value)


def test_how_a_run_is_distributed_is_no_part_of_what_it_is():
    assert default_path(compose(["distribute=mirrored"])) == default_path(compose([]))
