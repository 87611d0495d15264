"""What tests share. TensorFlow is imported by the tests that need it, not at collection."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core already
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

ROOT = Path(__file__).parent.parent


def members(group):
    """The names that a configuration group offers, found in its folder."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder where the embedded data set is prepared once for all tests."""
    from data import mnist_5k

    path = tmp_path_factory.mktemp("tfds")
    mnist_5k.load(str(path))
    return path


def small(data_dir, output_dir, *overrides):
    """The configuration of a short run on the embedded digits."""
    from conf import compose

    short = ["epochs=2", "batch_size=500", "latent.units=8", f"data.data_dir={data_dir}", f"output_dir={output_dir}"]
    if "model=image_conv" not in overrides:
        short.append("model.widths=[32]")
    return compose([*short, *overrides])


@pytest.fixture
def train_small(tmp_path, data_dir):
    """`train.train` of a short run on the embedded digits: `train_small("epochs=3")`."""
    from train import train

    def run(*overrides, output="run"):
        return train(small(data_dir, tmp_path / output, *overrides))

    return run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, data_dir):
    """What `train_small()` leaves and returns: its folder, to be copied rather than changed, and the result."""
    from train import train

    path = tmp_path_factory.mktemp("small") / "run"
    return path, train(small(data_dir, path))
