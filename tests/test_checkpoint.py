"""The checkpoint and what follows from it, in runs that end between one file and the next."""

import shutil

import numpy as np
import pytest

from conf.checks import ConfigError
from telemetry.records import DRAFT, read_metrics


@pytest.fixture
def stopped(small_run, tmp_path):
    """The folder of a finished run of two epochs, to be gone on with."""
    shutil.copytree(small_run[0], tmp_path / "run")
    return tmp_path / "run"


def test_best_weights_are_never_ahead_of_the_checkpoint(train_small, tmp_path, monkeypatch):
    """Gone on with, with other threads or more epochs, the second epoch may become another one."""
    from telemetry import checkpoint

    save = checkpoint.Checkpoint.save

    def killed(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        save(self)

    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_BEST", -1.0)
    monkeypatch.setattr(checkpoint.Checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_small()
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert float(rows[1]["val_loss"]) < float(rows[0]["val_loss"])
    np.testing.assert_allclose(train_small("evaluate=true")["val_loss"], float(rows[0]["val_loss"]), rtol=1e-6)


def test_best_weights_of_a_run_that_diverged_are_not_those_of_what_follows(train_small, tmp_path, monkeypatch):
    """Its last epochs are in no checkpoint; with more epochs in all, they become others."""
    from telemetry import callbacks, checkpoint

    def diverged(self, epoch, logs):
        on_epoch_end(self, epoch, {**logs, "loss": np.nan} if epoch == 2 else logs)

    def killed(self, count):
        raise KeyboardInterrupt

    on_epoch_end = callbacks.Metrics.on_epoch_end
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_SAVES", 1e9)
    monkeypatch.setattr(callbacks.Metrics, "on_epoch_end", diverged)
    assert train_small("epochs=3")["status"] == "diverged"
    best = [float(row["val_loss"]) for row in read_metrics(tmp_path / "run" / "metrics.csv")]
    assert best == sorted(best, reverse=True)
    monkeypatch.setattr(checkpoint.Checkpoint, "end_steps", killed)
    with pytest.raises(KeyboardInterrupt):
        train_small("epochs=4")
    np.testing.assert_allclose(train_small("epochs=4", "evaluate=true")["val_loss"], best[0], rtol=1e-6)


def test_best_weights_are_written_between_checkpoints_of_steps(train_small, tmp_path, monkeypatch):
    """However short a time ago the last step's was, so that a run that is killed can be looked at."""
    from telemetry import checkpoint

    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_SAVES", 1e9)
    monkeypatch.setattr(checkpoint.Checkpoint, "finish", lambda self: pytest.fail("it is killed before"))
    with pytest.raises(pytest.fail.Exception):
        train_small("checkpoint_steps=1")
    row = read_metrics(tmp_path / "run" / "metrics.csv")[0]
    np.testing.assert_allclose(train_small("evaluate=true")["val_loss"], float(row["val_loss"]), rtol=1e-6)


def test_epochs_since_the_checkpoint_are_trained_again(train_small, small_run, tmp_path, monkeypatch):
    """Their rows and events are on disk when the run is killed."""
    from telemetry import checkpoint

    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_SAVES", 1e9)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "finish", lambda self: pytest.fail("it is killed before"))
        with pytest.raises(pytest.fail.Exception):
            train_small()
    rows = (tmp_path / "run" / "metrics.csv").read_bytes()
    assert np.load(tmp_path / "run" / "checkpoint.npz")["epoch"] == 1
    assert train_small()["test_loss"] == small_run[1]["test_loss"]
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == rows == (small_run[0] / "metrics.csv").read_bytes()
    for part in ("train", "validation"):
        assert scalars(tmp_path / "run" / part) == scalars(small_run[0] / part)


def scalars(folder):
    """All scalars of event files, as often as they are there: tag, step, value."""
    import tensorflow as tf
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for file in folder.glob("events.*"):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = Event.FromString(record)
            values = [value for value in event.summary.value if value.tensor.float_val]
            found += [(value.tag, event.step, *value.tensor.float_val) for value in values]
    assert found
    return sorted(found)


def test_best_weights_are_of_the_checkpoint_even_if_their_file_is_not(train_small, small_run, stopped):
    path, result = small_run
    assert result["best_epoch"] == 2
    for name in ("result.json", "best.weights.h5"):
        (stopped / name).unlink()
    again = train_small()
    assert {key: again[key] for key in ("test_loss", "val_loss", "best_epoch")} == {
        key: result[key] for key in ("test_loss", "val_loss", "best_epoch")
    }
    assert (stopped / "metrics.csv").read_bytes() == (path / "metrics.csv").read_bytes()


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:5000], lambda b: b[:5000] + b"?" + b[5001:]])
def test_a_damaged_checkpoint_is_named_and_left_alone(train_small, stopped, damage):
    path = stopped / "checkpoint.npz"
    weights, damaged = (stopped / "best.weights.h5").read_bytes(), damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"checkpoint\.npz cannot be read: resume=false moves that run aside"):
        train_small("epochs=3")
    assert path.read_bytes() == damaged
    assert (stopped / "best.weights.h5").read_bytes() == weights


def test_what_a_kill_left_behind_is_cleared_away(train_small, tmp_path):
    """Whenever it came: also before there was a run to be seen."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{DRAFT}config.yaml").write_text("seed: 0\nepo")
    train_small("epochs=1")
    assert list((tmp_path / "run").rglob(f"{DRAFT}*")) == []
