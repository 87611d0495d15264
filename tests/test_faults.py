"""Kill it whenever you like: the finished run is the same, bit for bit."""

import json
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
from faults import Fault, train
from processes import ROOT

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
INCIDENTAL = {"seconds", "examples_per_second", "config"}


def arrays(path):
    """All that a file of weights or of reconstructions holds, by name."""
    import h5py

    if path.suffix == ".npz":
        return dict(np.load(path))
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def board(path):
    """The steps of every tag of TensorBoard, and with them the values, where the same run has the same ones."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), {"tensors": 0}).Reload()
    return {
        tag: [(e.step, b"" if e.step == 0 else e.tensor_proto.SerializeToString()) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def line_of(name, text):
    """The line of a file of ours that holds this text."""
    (number,) = (n for n, line in enumerate((ROOT / name).read_text().splitlines(), start=1) if text in line)
    return str(ROOT / name), number


def same(path, expected):
    """That two run directories hold the same run."""
    assert {item.name for item in path.iterdir()} == {item.name for item in expected.iterdir()}
    assert (path / "metrics.csv").read_bytes() == (expected / "metrics.csv").read_bytes()
    for name in ("best.weights.h5", "last.weights.h5", "reconstructions.npz", "code_statistics.npz"):
        ours, theirs = arrays(path / name), arrays(expected / name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=f"{name} {key}")
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (path, expected))
    assert {k: v for k, v in ours.items() if k not in INCIDENTAL} == {
        k: v for k, v in theirs.items() if k not in INCIDENTAL
    }
    for name in ("train", "validation"):
        assert board(path / name) == board(expected / name)


class Runs:
    """One command, undisturbed in `expected`, killed elsewhere."""

    def __init__(self, folder, words, traced):
        self.folder, self.words = folder, words
        self.expected = folder / "undisturbed"
        status, self.seen, self.seconds = self.train(self.expected, traced=traced)
        assert status == 0, self.log(self.expected)

    def train(self, path, fault=None, traced=False):
        return train([*self.words, f"output_dir={path}"], f"{path}.log", fault, traced)

    def log(self, path):
        return Path(f"{path}.log").read_text()

    def somewhere(self, random):
        """A moment: any line of ours is as likely as any other, however often it runs; or any time."""
        number, kind = random.choice(SIGNALS), random.randrange(6)
        if kind == 0:
            return Fault(number, write=True, count=random.randint(1, 3))
        if kind == 1:
            return Fault(number, seconds=random.uniform(0, self.seconds))
        line = random.choice(sorted(self.seen))
        return Fault(number, line=line, count=random.randint(1, self.seen[line]))

    def kill(self, path, fault):
        """Runs into a fault; whether it was in time."""
        status, _, _ = self.train(path, fault)
        if status == 0:
            return False
        assert status == STATUS[fault.number], (fault, self.log(path))
        if fault.number != signal.SIGKILL:
            assert self.log(path).splitlines()[-1] == "interrupted: run the same command again to go on"
        return True

    def survive(self, moments, random):
        """Killed at these moments, and so many times more at others, in as many runs as it takes."""
        moments, kills, run = list(moments), 0, 0
        while moments:
            run += 1
            path = self.folder / f"run{run}"
            while moments and not (path / "result.json").exists():
                moment = moments.pop(0)
                fault = moment if isinstance(moment, Fault) else self.somewhere(random)
                if self.kill(path, fault):
                    kills += 1
                elif not isinstance(moment, Fault):
                    moments.append(moment)
            if not (path / "result.json").exists():
                assert self.train(path)[0] == 0, self.log(path)
            same(path, self.expected)
        return kills


@pytest.fixture
def runs(tmp_path, data_dir):
    def of(*words, traced=False):
        short = ["epochs=2", "batch_size=500", "latent.units=4", "threads=1", f"data.data_dir={data_dir}"]
        if not any(word.startswith("model=") for word in words):
            short.append("model.widths=[16]")
        return Runs(tmp_path, [*short, *words], traced)

    return of


def test_killed_in_training_in_a_checkpoint_in_pictures_and_at_the_end_it_ends_the_same(runs):
    ours = runs("rounding=uniform_noise", "checkpoint_steps=3")
    step = line_of("models/training.py", "checkpoint.end_steps(")
    picture = line_of("telemetry/tensorboard.py", "pictures.staircase(")
    saved = line_of("models/training.py", "if not trainer.stop_training:")
    tested = line_of("telemetry/results.py", "save_reconstructions(run.path")
    moments = [
        Fault(signal.SIGINT, line=step, count=5),
        Fault(signal.SIGKILL, write=True, count=2),
        Fault(signal.SIGTERM, line=picture),
        Fault(signal.SIGKILL, line=saved, count=2),
        Fault(signal.SIGKILL, line=tested),
    ]
    assert ours.survive(moments, random.Random(0)) == 5
    log = (ours.folder / "run1" / "train.log").read_text()
    for steps in (5, 6, 8):
        assert f"going on after epoch 0 and {steps} of 8 steps with" in log


@pytest.mark.soak
@pytest.mark.parametrize(
    "words",
    [
        ["rounding=straight_through"],
        ["rounding=uniform_noise", "checkpoint_steps=3"],
        ["rounding=soft_round_annealed", "latent=integer"],
        ["rounding=switch", "rounding.at=0.4", "checkpoint_steps=1"],
        ["rounding=sga", "model=image_conv", "model.channels=[4]"],
    ],
    ids=lambda words: words[0].partition("=")[2],
)
def test_killed_anywhere_it_ends_the_same(runs, words):
    chance = random.Random(int(os.environ.get("SEED", "0")))
    assert runs(*words, traced=True).survive(["somewhere"] * 10, chance) == 10
