"""What the machine and other people do to a run: each time one sentence with the way out, and what is stored stays."""

import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, small
from omegaconf import OmegaConf

from conf import compose
from conf.checks import ConfigError, check


def refused(train, *words, **options):
    """The sentence that a run ends with."""
    with pytest.raises(ConfigError) as caught:
        train(*words, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def in_the_middle(monkeypatch):
    """Lets something happen after the first epoch of a run."""

    def let(happen):
        from telemetry.checkpoint import Checkpoint

        end = Checkpoint.end_epoch

        def end_epoch(self, val_loss):
            end(self, val_loss)
            if self.epoch == 1:
                happen()

        monkeypatch.setattr(Checkpoint, "end_epoch", end_epoch)

    return let


@pytest.fixture
def copied(small_run, tmp_path):
    """The folder of `train_small()`, as if it had just run."""
    shutil.copytree(small_run[0], tmp_path / "run")
    return tmp_path / "run"


def contents(path):
    return {item: item.read_bytes() for item in path.rglob("*") if item.is_file()}


# The disk


@contextmanager
def largest_file(size):
    """Lets no file grow beyond so many bytes: what a quota does, for this process and without privileges."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [100, 150_000])
def test_a_full_disk_ends_the_run_in_a_sentence_and_the_run_goes_on_later(
    train_small, small_run, tmp_path, in_the_middle, size, capfd
):
    path = tmp_path / "run"
    with largest_file(resource.RLIM_INFINITY):  # put back after the run has lowered it
        in_the_middle(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)))
        message = refused(train_small)
    assert message == f"{path}: File too large: make room, and the same command goes on with the run"
    assert "Traceback" not in capfd.readouterr().err
    first, second = (small_run[0] / "metrics.csv").read_text().splitlines()[:2]
    assert (path / "metrics.csv").read_text().startswith(f"{first}\n{second}\n")
    assert train_small()["status"] == "finished"
    assert (path / "metrics.csv").read_bytes() == (small_run[0] / "metrics.csv").read_bytes()


def test_no_room_for_temporary_files(train_small, tmp_path, monkeypatch):
    """Which TensorFlow wants as it is imported."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    with largest_file(0):
        message = refused(train_small)
    assert message.startswith("No usable temporary directory found in [")
    assert message.endswith("make room there, or set TMPDIR to another folder")
    assert not (tmp_path / "run").exists()


ON_SMALL_DISKS = """
import os, subprocess, sys
sys.path.insert(0, sys.argv.pop(1))
from train import main, one_sentence
folder = sys.argv.pop(1)
sys.argv.append(f"output_dir={folder}/run")
for options, expected in (("size=100m,ro", "Read-only file system"), ("size=300k", "No space left on device")):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        with one_sentence():
            main()
    except SystemExit as end:
        print(end.code)
        print(*sorted(os.listdir(folder + "/run") if os.path.exists(folder + "/run") else []))
"""


def test_real_disks_that_are_read_only_or_full(tmp_path, data_dir):
    def apart(*words):
        line = ["unshare", "--user", "--map-root-user", "--mount", *words]
        try:
            return subprocess.run(line, capture_output=True, text=True)
        except FileNotFoundError as error:
            return subprocess.CompletedProcess(line, 1, "", str(error))

    if apart("mount", "-t", "tmpfs", "tmpfs", str(tmp_path)).returncode:
        pytest.skip("needs a system that lets users mount a tmpfs of their own")
    result = apart(sys.executable, "-c", ON_SMALL_DISKS, str(ROOT), str(tmp_path), *small_words(data_dir))
    assert result.stdout, result.stderr
    read_only, nothing, full, kept = [
        line for line in result.stdout.splitlines() if not line.startswith(("epoch", "training"))
    ]
    assert read_only.startswith(f"error: can't write to output_dir={tmp_path}/run: Read-only file system: mend that")
    assert nothing == ""
    assert (
        full == f"error: {tmp_path}/run: No space left on device: make room, and the same command goes on with the run"
    )
    assert "config.yaml" in kept
    assert result.stderr == ""


def small_words(data_dir):
    return ["epochs=2", "batch_size=500", "latent.units=8", "model.widths=[32]", f"data.data_dir={data_dir}"]


@pytest.mark.parametrize("place", ["/dev/null/run", "/proc/run", "run" + "x" * 300])
def test_a_place_that_cannot_be_written_is_named(data_dir, place, monkeypatch):
    from train import train

    message = refused(train, small(data_dir, place))
    assert message.startswith(f"can't write to output_dir={place}: ")
    assert message.endswith("or choose another output_dir")


def test_a_run_that_cannot_be_moved_aside_is_named(train_small, copied, monkeypatch):
    def mounted(path, target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", mounted)
    assert refused(train_small, "resume=false").startswith(f"can't write to output_dir={copied}: ")


@pytest.mark.parametrize("name", ["", "metrics.csv"])
def test_a_folder_that_is_deleted_underneath(train_small, tmp_path, in_the_middle, name):
    path = tmp_path / "run"
    in_the_middle(lambda: shutil.rmtree(path) if not name else (path / name).unlink())
    assert f"{path}, or a file in it, was deleted or moved as the run was writing there" in refused(train_small)
    assert not (path / name).exists()


# Damaged files of a run


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"\xff\x00" + text[2:],
        lambda text: text.replace(b"epoch", b"epic", 1),
        lambda text: text.replace(b"\n1,", b"\none,", 1),
        lambda text: text.replace(b"\n2,", b"\n2,x", 1),
        lambda text: text.replace(b"\n2,", b"\n2,1,1,1,", 1),
    ],
)
def test_a_damaged_metrics_file_is_named_before_it_is_too_late(train_small, copied, damage):
    file = copied / "metrics.csv"
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    message = refused(train_small, "epochs=3")
    assert message.startswith(f"{file} is damaged: mend it, or delete it")
    assert file.read_bytes() == damaged


@pytest.mark.parametrize(
    "text", ["", "epochs: 2", "- a\n- list", "{", "!!python/object/apply:os.system [exit 1]", "\0"]
)
def test_a_damaged_stored_configuration_is_named(train_small, copied, text):
    (copied / "config.yaml").write_text(text)
    before = contents(copied)
    message = refused(train_small, "epochs=3")
    assert message == f"{copied}/config.yaml is damaged: resume=false moves that run aside and starts over"
    assert contents(copied) == before


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"status": "finished"}', '{"status": "finished", "epochs": "../x"}', "\0"]
)
def test_a_damaged_result_is_named(train_small, copied, text):
    (copied / "result.json").write_text(text)
    assert refused(train_small).startswith(f"{copied}/result.json is damaged: delete it, and the same command goes on")


def test_without_its_metrics_a_run_goes_on_and_its_result_gives_no_file_its_name(train_small, copied):
    (copied / "metrics.csv").unlink()
    (copied / "result.json").write_text('{"status": "failed", "epochs": "../../elsewhere"}')
    assert train_small("epochs=3")["epochs"] == 3
    assert [line.split(",")[0] for line in (copied / "metrics.csv").read_text().splitlines()] == ["epoch", "3"]
    assert [item.name for item in copied.parent.iterdir()] == ["run"]


def test_damaged_weights_are_named(train_small, copied):
    file = copied / "best.weights.h5"
    file.write_bytes(file.read_bytes()[:1000])
    assert refused(train_small, "evaluate=true").startswith(f"{file} cannot be read: resume=false moves")


# Data and network


@pytest.mark.parametrize("name", ["dataset_info.json", "mnist_5k-train.tfrecord-00000-of-00001"])
def test_a_damaged_prepared_set_is_told_to_delete(train_small, data_dir, tmp_path, name):
    shutil.copytree(data_dir, tmp_path / "sets")
    (file,) = (tmp_path / "sets" / "mnist_5k").rglob(name)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ConfigError, match=r"^data=mnist_5k: .*(?s:.*)delete .+") as caught:
        train_small(f"data.data_dir={tmp_path / 'sets'}")
    assert "damaged" in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_data_that_are_no_numbers(value):
    import tensorflow as tf

    from data.pipeline import DataError, Splits, in_memory

    x = np.zeros((3, 2, 2, 1), np.float32)
    good, x[1, 0, 0] = tf.data.Dataset.from_tensor_slices(x.copy()), value
    with pytest.raises(DataError, match="the validation set has values that are NaN or infinite"):
        in_memory(Splits(good, tf.data.Dataset.from_tensor_slices(x), good))


@contextmanager
def silent_server():
    """A host that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_host_that_never_answers_is_given_up(train_small, tmp_path, monkeypatch):
    monkeypatch.setattr("data.network.PROBE_SECONDS", 0.2)
    with silent_server() as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        message = sentence_of_mnist(train_small, tmp_path)
    assert "its download cannot be reached" in message
    assert "data=mnist_5k" in message


def test_a_host_that_falls_silent_later_is_given_up(train_small, tmp_path, monkeypatch):
    monkeypatch.setattr("data.network.PROBE_SECONDS", 0.2)
    monkeypatch.setattr("data.network.SILENCE_SECONDS", 0.2)
    monkeypatch.setattr("data.network.any_answers", lambda urls: True)
    with silent_server() as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        assert "its download cannot be reached" in sentence_of_mnist(train_small, tmp_path)


def sentence_of_mnist(train_small, tmp_path):
    (tmp_path / "sets").mkdir()
    with pytest.raises(ConfigError) as caught:
        train_small("data=mnist", f"data.data_dir={tmp_path / 'sets'}")
    assert not (tmp_path / "run").exists()
    return str(caught.value)


def test_the_first_three_hosts_are_asked(monkeypatch):
    from data import network

    urls = [f"https://{host}/{file}" for host in "abcd" for file in (1, 2)]
    for up, expected in (("a", True), ("c", True), ("d", False)):
        monkeypatch.setattr(network, "answers_in_time", lambda url, up=up: url == f"https://{up}/1")
        assert network.any_answers(urls) is expected


def test_patience_adds_up_to_less_than_half_a_minute():
    from data.network import PROBE_SECONDS, SILENCE_SECONDS

    late, hanging_twice = PROBE_SECONDS, 2 * (PROBE_SECONDS + SILENCE_SECONDS)
    assert late + hanging_twice < 30


# Memory


@pytest.mark.parametrize(
    "words",
    [
        ["model.widths=[1000000000]"],
        ["latent.units=2147483647"],
        ["model=image_conv", "model.channels=[1000000,1000000]"],
        ["latent=integer", "latent.units=1000000", "latent.levels=65536"],
        ["latent=integer", "latent.units=1000000", "latent.levels=null", "model.widths=[16]"],
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_made(train_small, tmp_path, words):
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "GB of memory and more" in refused(train_small, *words)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 500_000, "kB"
    assert not (tmp_path / "run").exists()


def test_counting_does_not_change_the_numbers(data_dir):
    import keras

    from models.build import make_autoencoder, refuse_giants

    cfg = compose(small_words(data_dir))
    keras.utils.set_random_seed(1)
    expected = make_autoencoder(cfg, (28, 28, 1), 10)
    refuse_giants(cfg, (28, 28, 1))
    keras.utils.set_random_seed(1)
    for ours, theirs in zip(make_autoencoder(cfg, (28, 28, 1), 10).variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_went_wrong_in_a_graph_is_told_without_its_place():
    import tensorflow as tf

    from conf.checks import first_line

    @tf.function(autograph=False)
    def step(x):
        return tf.debugging.check_numerics(x, "no memory\nRestart")

    @tf.function(autograph=False)
    def loop(x):
        return tf.while_loop(lambda number, _: number < 2, lambda number, x: (number + 1, step(x)), (0, x))

    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        loop(tf.constant(np.nan))
    assert first_line(caught.value) == "no memory"
    assert first_line(MemoryError()) == "MemoryError"


def test_memory_that_ends_is_told(tmp_path, data_dir):
    """In a process of its own, which may have 128 MB more than what it has before its model."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
import models.build, train
def starved(*arguments):
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**27, resource.RLIM_INFINITY))
models.build.refuse_giants = starved
with train.one_sentence():
    train.main()
"""
    words = [*small_words(data_dir)[:-1], "model.widths=[60000]", f"data.data_dir={data_dir}", "output_dir=run"]
    line = [sys.executable, "-c", program, *words]
    result = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: out of memory (")
    assert "Traceback" not in result.stderr
    assert "batch_size" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


# What somebody sent


@pytest.mark.parametrize("group", ["data", "model", "latent", "rounding", "loss", "optimizer"])
@pytest.mark.parametrize("target", ["os.system", "data.espeak.os.system", "keras.models.load_model", "builtins.eval"])
def test_a_sent_configuration_calls_nothing_foreign(small_run, tmp_path, group, target):
    from train import build, train

    sent = OmegaConf.load(small_run[0] / "config.yaml")
    sent.output_dir = str(tmp_path / "run")
    sent[group] = {"_target_": target, "command": f"touch {tmp_path}/owned", "units": 1, "learning_rate": 1}
    for use in (train, build) if target == "os.system" and group in ("rounding", "optimizer") else (train,):
        with pytest.raises(ConfigError, match=f"{group}.*: _target_='{target}' is not called"):
            use(sent)
    assert list(tmp_path.iterdir()) == []


def test_what_is_hidden_deeper_is_not_called_either():
    for words in (
        ["rounding=soft_round", "rounding.alpha={_target_: os.system, command: id}"],
        ["rounding=soft_round", "rounding.alpha=[{a: [{_target_: os.system}]}]"],
        ["rounding=switch", "rounding.before._target_=os.system"],
        ["+model.extra={_target_: os.system}"],
    ):
        with pytest.raises(ConfigError, match=r"_target_='os\.system' is not called"):
            check(compose(words))


def test_keras_optimizers_and_schedules_are_called():
    schedule = "{_target_: keras.optimizers.schedules.CosineDecay, initial_learning_rate: 9, decay_steps: 5}"
    for words in (["optimizer._target_=keras.optimizers.SGD"], ["rounding=soft_round", f"rounding.alpha={schedule}"]):
        check(compose(words))


def test_nothing_is_unpickled(copied, tmp_path):
    """Neither from weights and pictures that were sent, nor by the comparison."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    np.savez(copied / "reconstructions.npz", x=np.array([Evil()], object), x_hat=np.array([Evil()], object))
    from compare import compare

    compare(tmp_path / "run", {}, "rounding", "val_loss", tmp_path / "comparison")
    assert not (tmp_path / "owned").exists()
    sources = [
        path
        for folder in ("", "conf", "data", "models", "rounding", "telemetry")
        for path in (ROOT / folder).glob("*.py")
    ]
    forbidden = ("import pickle", "allow_pickle=True", "yaml.load(", "load_model(", "eval(", "unsafe_load")
    found = {(path.name, word) for path in sources for word in forbidden if word in path.read_text()}
    assert found == set()


def test_the_board_is_quiet_and_for_this_machine_only():
    lines = subprocess.run(["make", "-n", "board"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    (line,) = [line for line in lines if "bin/tensorboard" in line]
    assert "--host 127.0.0.1" in line
    assert "TF_CPP_MIN_LOG_LEVEL=3" in line
