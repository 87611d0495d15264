"""What is exported computes what the run computed, also where there is nothing of this repository."""

import functools
import logging
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import TINY_RUNS, shared

import codec
from conf.checks import ConfigError


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """The folder that `export` makes of a run, once, without the report; and the run's."""
    from coding import export

    @functools.cache
    def of(model, latent):
        folder = tiny_run(model, latent)
        with shared(tmp_path_factory, f"export-{model}") as path, pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "report", lambda stored, forms: "")
            if not (path / "made").exists():
                codec.main(["export", f"run={folder}", f"output={path / 'made'}"])
        return path / "made", folder

    return of


def examples(folder):
    """Test examples, and what evaluation made of them."""
    with np.load(folder / "reconstructions.npz") as stored:
        return stored["x"], stored["code"], stored["x_hat"]


@pytest.mark.parametrize(("model", "latent"), TINY_RUNS)
def test_tflite_is_the_model(model, latent, exported):
    import tensorflow as tf

    path, folder = exported(model, latent)
    x, code, x_hat = examples(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its new name
        interpreter = tf.lite.Interpreter(str(path / "model.tflite"))
    encode, decode = map(interpreter.get_signature_runner, ("encode", "decode"))
    for count in (len(x), 1):
        np.testing.assert_array_equal(encode(x=x[:count])["codes"], code[:count])
        decoded = decode(codes=code[:count])["x"][:, : x.shape[1]]
        np.testing.assert_allclose(decoded, x_hat[:count], atol=1e-5)
    assert encode(x=x)["codes"].dtype == np.int32


ALONE = """
import sys
import numpy as np
import tensorflow as tf
for path, stored in zip(sys.argv[1::2], sys.argv[2::2]):
    model = tf.saved_model.load(path)
    encode, decode = model.signatures["encode"], model.signatures["decode"]
    with np.load(stored) as arrays:
        x, code, x_hat = arrays["x"], arrays["code"], arrays["x_hat"]
    for count in (len(x), 1):
        codes = encode(x=tf.constant(x[:count]))["codes"]
        assert codes.dtype == tf.int32
        np.testing.assert_array_equal(codes, code[:count])
        np.testing.assert_allclose(decode(codes=codes)["x"][:, :x.shape[1]], x_hat[:count], atol=1e-6)
    if x.ndim == 3:
        codes = encode(x=tf.zeros([2, 1000, 1]))["codes"]
        assert codes.shape[:2] == (2, 125)
        assert decode(codes=codes)["x"].shape == (2, 1000, 1)
for name in ("models", "rounding", "train", "coding"):
    try:
        __import__(name)
    except ImportError:
        print("without", name)
"""


def test_saved_models_need_nothing_of_this_repository(exported, tmp_path):
    paths = [exported(*run) for run in TINY_RUNS]
    words = [str(word) for path, folder in paths for word in (path, folder / "reconstructions.npz")]
    line = [sys.executable, "-I", "-c", ALONE, *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.stdout.split()[1::2] == ["models", "rounding", "train", "coding"], done.stderr


@pytest.mark.parametrize(("model", "latent"), TINY_RUNS[:1])
def test_the_report_compares_each_form_with_the_run(model, latent, exported, monkeypatch):
    from coding import export, stored

    monkeypatch.setattr(export, "SECONDS", 0.0)
    monkeypatch.setattr(export, "REPETITIONS", 1)
    path, folder = exported(model, latent)
    good = export.saved_model(path)
    bad = export.Form("wrong", 12345, lambda x: good.encode(x) + np.eye(1, 6, dtype=np.int32), good.decode)
    own, _, right, _, wrong, _ = export.report(stored.load(folder), [good, bad]).splitlines()[-6:]
    assert own.startswith("as trained")
    assert right.startswith("SavedModel")
    assert wrong.split()[:3] == ["wrong", "12,345", "1"]
    frames = 4 * 51
    for line, differ in ((own, 0), (right, 0), (wrong, frames)):
        assert f" {differ} of {6 * frames:,} " in line


def test_a_model_that_tflite_does_not_take(tiny_run, tmp_path, monkeypatch, caplog):
    from coding import export

    def refuse(signatures):
        raise RuntimeError("a.py:1:2: error: no such operation\nand more")

    monkeypatch.setattr(export, "converted", refuse)
    monkeypatch.setattr(export, "report", lambda stored, forms: f"{len(forms)} form")
    caplog.set_level(logging.INFO)
    codec.main(["export", f"run={tiny_run(*TINY_RUNS[-1])}", f"output={tmp_path / 'out'}"])
    assert "1 form" in caplog.text
    assert "no model.tflite" in caplog.text
    assert "(no such operation)" in caplog.text
    assert "tflite" not in (tmp_path / "out/README.txt").read_text()
    assert not (tmp_path / "out/model.tflite").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_nothing(tiny_run, tmp_path, monkeypatch):
    import tensorflow as tf

    def fail(signatures, path, *args):
        path.mkdir()
        (path / "saved_model.pb").touch()
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(ConfigError, match="No space left"):
        codec.main(["export", f"run={tiny_run(*TINY_RUNS[-1])}", f"output={tmp_path / 'out'}"])
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["export", "inspect"])
def test_nothing_is_overwritten(command, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists: choose another"):
        codec.main([command, "run=nowhere", f"output={tmp_path / 'out'}"])


def test_refusals_need_no_tensorflow(tmp_path, tiny_run):
    shutil.copytree(tiny_run(*TINY_RUNS[-1]), tmp_path / "run")
    (tmp_path / "run/code_statistics.npz").unlink()
    says = f"""
import sys, codec
from conf.checks import ConfigError
for words in (["run=nowhere"], ["run={tmp_path}/run"], ["run=nowhere", "output={tmp_path}"]):
    for command in ("export", "inspect"):
        try:
            codec.main([command, "output={tmp_path}/out", *words])
        except ConfigError as error:
            print(error)
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, cwd=codec.__file__[:-9])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
