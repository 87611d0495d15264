"""What tests share. TensorFlow is imported by the tests that need it, not at collection."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).parent.parent


def members(group):
    """The names that a configuration group offers, found in its folder."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder where the embedded data set is prepared once for all tests."""
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def train_small(tmp_path, data_dir):
    """`train.train` of a short run on the embedded digits: `train_small("epochs=3")`."""
    from conf import compose
    from train import train

    def run(*overrides, output="run"):
        small = ["epochs=2", "batch_size=500", "latent.units=8", f"data.data_dir={data_dir}"]
        if "model=image_conv" not in overrides:
            small.append("model.widths=[32]")
        return train(compose([*small, f"output_dir={tmp_path / output}", *overrides]))

    return run
