"""What tests share. TensorFlow is imported by the tests that need it, not at collection."""

import functools
import os
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core already
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

ROOT = Path(__file__).parent.parent


def members(group):
    """The names that a configuration group offers, found in its folder."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def config(stem, **overrides):
    """A data set's YAML with these values in it."""
    from omegaconf import OmegaConf

    node = OmegaConf.load(ROOT / "conf" / "data" / f"{stem}.yaml")
    node.pop("defaults", None)  # what it changes of other settings
    OmegaConf.set_struct(node, True)
    return OmegaConf.merge(node, overrides)


def load(stem, **overrides):
    """What train.py does, with the loader's own exception in place of Hydra's wrapping."""
    import hydra

    try:
        return hydra.utils.instantiate(config(stem, **overrides))
    except hydra.errors.InstantiationException as error:
        raise error.__cause__ from None


def sentence(stem, **overrides):
    """The message of the DataError that this configuration raises: a few lines and no more."""
    from data.pipeline import DataError

    with pytest.raises(DataError) as caught:
        load(stem, **{"data_dir": None, **overrides} if "data_dir" in config(stem) else overrides)
    message = str(caught.value)
    assert message.count("\n") < 4
    assert len(message) < 700
    return message


def array(dataset):
    """All examples, `[examples, ...]`."""
    return np.concatenate(list(dataset.batch(1000).as_numpy_iterator()))


def stand_in(name, data_dir, version, features, splits):
    """Prepares a set of ours, its splits lists of examples, with TFDS itself, as the real one would stand on disk."""
    import tensorflow_datasets as tfds

    class StandIn(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(examples) for split, examples in splits.items()}

        def _generate_examples(self, examples):
            yield from enumerate(examples)

    StandIn.name = name
    StandIn(data_dir=str(data_dir)).download_and_prepare()
    return str(data_dir)


@contextmanager
def shared(tmp_path_factory, name):
    """A folder of all worker processes: the first one fills it while the others wait, and then find it full."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{path}.lock"):
        path.mkdir(exist_ok=True)
        yield path


@pytest.fixture(autouse=True)
def no_full_error(monkeypatch):
    """What `one_sentence` sets in the environment does not outlive a test, or other tests' processes would get it."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder where the embedded data set is prepared once for all tests; this process decodes it once, too."""
    import tensorflow as tf

    from data import mnist_5k
    from data.pipeline import Splits, in_memory

    real = mnist_5k.load
    with shared(tmp_path_factory, "tfds") as path:
        held = in_memory(real(str(path)))

    @functools.wraps(real)
    def load(data_dir=None):
        return Splits(*map(tf.data.Dataset.from_tensor_slices, held)) if data_dir == str(path) else real(data_dir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist_5k, "load", load)
        yield path


def small(data_dir, output_dir, *overrides):
    """The configuration of a short run on the embedded digits."""
    from conf import compose

    short = ["epochs=2", "batch_size=500", "latent.units=8", f"data.data_dir={data_dir}", f"output_dir={output_dir}"]
    if not any(word.startswith("model=") for word in overrides):
        short.append("model.widths=[32]")
    return compose([*short, *overrides])


@pytest.fixture
def train_small(tmp_path, data_dir):
    """`train.train` of a short run on the embedded digits: `train_small("epochs=3")`."""
    from train import train

    def run(*overrides, output="run"):
        return train(small(data_dir, tmp_path / output, *overrides))

    return run


@pytest.fixture
def no_network(monkeypatch):
    """Closes Python's sockets and gives the list of those who tried."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise socket.gaierror("no network in this test")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, data_dir):
    """What `train_small()` leaves and returns: its folder, to be copied rather than changed, and the result."""
    from train import train

    with shared(tmp_path_factory, "small") as folder:
        return folder / "run", train(small(data_dir, folder / "run"))


TINY = {
    "image_mlp": ["model.widths=[16]"],
    "image_conv": ["model.channels=[4,8]", "model.width=16"],
    "audio_conv": ["model.strides=[2,4]", "model.channels=[4,8]", "model.dilations=[1,3]"],
}
"""Small members of the models, by name."""

LATENTS = ("latent=binary", "latent=integer latent.levels=5", "latent=integer latent.levels=null")

# Each model and each latent at least once; every pair of them would take minutes.
TINY_RUNS = [*zip(members("model"), LATENTS, strict=True)]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, data_dir):
    """The folder of a finished run, made once for all tests: `tiny_run("image_mlp", "latent=binary")`.

    Its weights are random, which takes a third of the time that a training of one epoch does.
    """
    from conf import compose

    def run(model, latent):
        with shared(tmp_path_factory, f"tiny-{model}") as folder:
            words = [f"model={model}", *TINY[model], *latent.split(), "latent.units=6", "epochs=1"]
            words += _sounds(folder) if model.startswith("audio") else [f"data.data_dir={data_dir}", "batch_size=500"]
            if not (folder / "run").exists():
                untrained(compose([*words, f"output_dir={folder / 'run'}"]))
        return folder / "run"

    return run


def untrained(cfg):
    """Makes the folder of a finished run, with random weights."""
    from conf.checks import check
    from telemetry.results import code_statistics, save_reconstructions
    from telemetry.run import RunDirectory
    from train import build

    splits, trainer = build(cfg)
    rng = np.random.default_rng(0)
    for weight in trainer.autoencoder.trainable_variables:
        weight.assign_add(rng.normal(0, 0.1, weight.shape).astype("float32"))
    run = RunDirectory(check(cfg))
    with run.claim():
        trainer.autoencoder.save_weights(run.path / "best.weights.h5")
        save_reconstructions(run.path, trainer, splits.test)
        code_statistics(trainer, splits.train).save(run.path)
        run.write_result({"status": "finished", "epochs": 1, "val_loss": 0.0, "test_loss": 0.0})


def _sounds(folder):
    """The words for a set of ten clips of 402 samples, each a tone of its own and noise, in a folder in this one."""
    import soundfile

    (folder / "sounds").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        x = 0.7 * np.sin(np.arange(500) * 0.05 * (number + 1)) + rng.normal(0, 0.05, 500)
        soundfile.write(folder / f"sounds/{number}.wav", x, 2000)
    words = ["data=folder_audio", f"data.path={folder}/sounds", "data.sample_rate_hz=2000", "data.clip_seconds=0.201"]
    return [*words, "batch_size=4", "loss=squared_error"]
