"""Wrong command lines, and random right ones: each works, or is refused in one sentence before anything is written."""

import os
import sys

import numpy as np
import pytest
from conftest import ROOT, members
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conf import compose
from conf.checks import ConfigError

SCHEDULE = "keras.optimizers.schedules"

# By what is wrong with them: words of the command line, and a part of the sentence that must come of them.
WRONG = {
    # types
    "a fraction of an epoch": (["epochs=1.5"], "epochs must be"),
    "no number of epochs": (["epochs=many"], "epochs must be"),
    "a list of epochs": (["epochs=[1,2]"], "epochs must be"),
    "a text of a number": (["seed='1'"], "seed must be"),
    "hexadecimal": (["seed=0x10"], "seed must be"),
    "a float for a seed": (["seed=1e3"], "seed must be"),
    "a flag for a number": (["optimizer.weight_decay=true"], "optimizer.weight_decay must be"),
    "a number for a flag": (["resume=2"], "resume must be"),
    "a text for a flag": (["evaluate=maybe"], "evaluate must be"),
    "null for a flag": (["jit_compile=null"], "jit_compile must be"),
    "a number for a list": (["model.widths=64"], "model.widths must be"),
    "a number for a path": (["output_dir=3"], "output_dir must be"),
    "a list for a path": (["output_dir=[a]"], "output_dir must be"),
    "a section for a number": (["optimizer.learning_rate={a: 1}"], "optimizer.learning_rate must be"),
    "a number for a section": (["optimizer=3"], "optimizer"),
    "a section that is gone": (["~optimizer"], "optimizer"),
    "a number for a strategy": (["rounding=switch", "rounding.before=3"], "rounding.before must be a strategy"),
    # ranges
    "no epoch": (["epochs=0"], "epochs must be"),
    "a negative seed": (["seed=-1"], "seed must be"),
    "minus zero": (["seed=-0.0"], "seed must be"),
    "no unit": (["latent.units=0"], "latent.units must be"),
    "one level": (["latent=integer", "latent.levels=1"], "latent.levels must be"),
    "no scale": (["latent=integer", "latent.scale=0"], "latent.scale must be"),
    "an infinite rate": (["optimizer.learning_rate=inf"], "optimizer.learning_rate must be"),
    "a rate that is no number": (["optimizer.learning_rate=nan"], "optimizer.learning_rate must be"),
    "a rate too small for a float": (["optimizer.learning_rate=1e-400"], "optimizer.learning_rate must be"),
    "no clipping norm": (["optimizer.global_clipnorm=0"], "optimizer.global_clipnorm must be"),
    "no thread": (["threads=0"], "threads must be"),
    "an empty list": (["model=image_conv", "model.channels=[]"], "model.channels must be"),
    "no width": (["model.widths=[8,0]"], "model.widths must be"),
    "no clip": (["data=espeak_digits", "data.clip_seconds=0"], "data.clip_seconds must be"),
    "no rate": (["data=espeak_digits", "data.sample_rate_hz=0"], "data.sample_rate_hz must be"),
    "frames of one sample": (["data=espeak_digits", "loss.frame_lengths=[1]"], "loss.frame_lengths must be"),
    "a negative weight": (["data=espeak_digits", "loss.weight=-1"], "loss.weight must be"),
    "a far dilation": (["data=espeak_digits", "model.dilations=[2147483647]"], "model.dilations must be"),
    # unknown names
    "an unknown strategy": (["rounding=nope"], "rounding=nope does not exist"),
    "a strategy in capitals": (["rounding=Hard"], "did you mean hard?"),
    "an unknown key": (["epoch=3"], "did you mean epochs?"),
    "an unknown hyperparameter": (["rounding=soft_round", "rounding.alhpa=3"], "did you mean alpha?"),
    "another latent's key": (["latent.levels=4"], "there is no key latent.levels"),
    "an unknown experiment": (["experiment=nope"], "experiment=nope does not exist"),
    "an unknown interpolation": (["seed=${nope}"], "nope"),
    "an unknown resolver": (["epochs=${nope:1}"], "nope"),
    "an unknown variable": (["output_dir=${oc.env:NOT_SET_ANYWHERE}"], "NOT_SET_ANYWHERE"),
    "an interpolation in a circle": (["seed=${seed}"], "seed"),
    "an unknown configuration": (["--config-name=nope"], "nope"),
    "an unknown member of switch": (
        ["rounding=switch", "rounding@rounding.before=nope"],
        "rounding=nope does not exist",
    ),
    "a missing argument": (["~optimizer.learning_rate"], "optimizer.learning_rate is missing"),
    # conflicts
    "values for a single run": (["seed=1,2"], "add -m"),
    "two members at once": (["rounding=[hard,sine]"], "rounding needs exactly one member"),
    "no member": (["~latent"], "one member"),
    "another model's key": (["model=image_conv", "model.widths=[3]"], "there is no key model.widths"),
    "a path for a set without": (["data.path=/tmp"], "there is no key data.path"),
    "a member added": (["+rounding=hard"], "rounding"),
    "a key added twice": (["+epochs=3"], "epochs"),
    # empty strings
    "an empty path": (["output_dir="], "output_dir must be"),
    "a blank path": (["output_dir='  '"], "output_dir must be"),
    "an empty strategy": (["rounding="], "rounding= does not exist"),
    "an empty number": (["epochs="], "epochs must be"),
    "an empty folder": (["data.data_dir=''"], "data.data_dir must be"),
    "nothing at all": (["="], ""),
    # unicode, and what is no text
    "digits of another script": (["epochs='٣'"], "epochs must be"),
    "umlauts": (["rounding='süß'"], "rounding=süß does not exist"),
    "umlauts without quotes": (["rounding=süß"], "put quotes"),
    "bytes that are no text": (["output_dir='a\udcff'"], "output_dir must be"),
    "a line break": (["output_dir='a\nb'"], ""),
    # huge numbers
    "beyond an integer": (["seed=99999999999999999999999"], "seed must be"),
    "beyond a float": (["epochs=1e400"], "epochs must be"),
    "a hundred digits": (["batch_size=1" + "0" * 100], "batch_size must be"),
    "a very long path": (["output_dir=" + "x" * 300], "File name too long"),
    "a very deep path": (["output_dir=" + "x/" * 3000], "File name too long"),
    # paths in names
    "a strategy elsewhere": (["rounding=../../../etc/passwd"], "does not exist"),
    "another group's member": (["rounding=../model/image_mlp"], "does not exist"),
    "a member's file": (["rounding=hard.yaml"], "does not exist"),
    "a choice that leads out": (["choices.data=../../../etc"], "does not exist"),
    "an output that is a file": (["output_dir=/etc/passwd"], "not a run of ours"),
    "an output that is the root": (["output_dir=/"], "not a run of ours"),
    "a folder that is a file": (["data.data_dir=/etc/passwd"], "data.data_dir must be"),
    "a folder on the net": (["data.data_dir=gs://bucket/sets"], "data.data_dir must be"),
    # shells and code
    "a command": (["output_dir=$(id)"], "put quotes"),
    "backquotes": (["output_dir=`id`"], "put quotes"),
    "two commands": (["seed=1;rm -rf *"], "put quotes"),
    "a function to call": (["rounding._target_=os.system"], "is not called"),
    "a function behind ours": (["data._target_=data.espeak.os.system"], "is not called"),
    "a function of Keras's": (["optimizer._target_=keras.optimizers.deserialize"], "is not called"),
    "a function in a schedule": (["rounding=soft_round", "rounding.alpha={_target_: os.system}"], "is not called"),
    "nothing to call": (["~data._target_"], "_target_ is missing"),
    # refused once TensorFlow and the data are there
    "a negative alpha": (["rounding=soft_round", "rounding.alpha=-1"], "rounding=soft_round: alpha must be"),
    "a list of alphas": (["rounding=soft_round", "rounding.alpha=[1]"], "alpha must be"),
    "a million terms": (["rounding=fourier", "rounding.terms=1000000"], "terms must be an integer from 1 to 10000"),
    "a window that is none": (["rounding=fourier", "rounding.window=hann"], "window must be"),
    "an even power": (["rounding=cubic", "rounding.power=2"], "power must be"),
    "a schedule without its length": (
        ["rounding=soft_round", f"rounding.alpha={{_target_: {SCHEDULE}.CosineDecay, initial_learning_rate: 1}}"],
        "decay_steps",
    ),
    "a schedule for an optimizer": ([f"optimizer._target_={SCHEDULE}.CosineDecay"], "optimizer: "),
    "a batch beyond the data": (
        ["batch_size=4001"],
        "has 4000 training examples: batch_size must be 4000 or less, got 4001",
    ),
    "a giant": (["latent.units=2147483647"], "GB of memory"),
    "audio's model on images": (["model=audio_conv"], "model=audio_conv: needs audio"),
    "audio's loss on images": (["loss=spectral"], "loss=spectral: needs audio"),
    "images that can't be halved": (["model=image_conv", "model.channels=[4,4,4]"], "multiples of 8"),
    "a set whose name leads out": (["data=tfds_image", "data.name=../../etc"], "cannot be opened"),
    "a set whose name is a command": (["data=tfds_image", "data.name='a;b$(id)'"], "cannot be opened"),
    "no folder": (["data=folder_images"], "data.path is missing"),
    "a folder that is not there": (["data=folder_images", "data.path='/nope/日本'"], "does not exist"),
    "a folder without sounds": (["data=folder_audio", f"data.path={ROOT / 'conf'}"], "holds 0 WAV or FLAC files"),
    "nothing to measure": (["evaluate=true"], "holds no trained weights"),
}


@pytest.fixture
def run_main(tmp_path, monkeypatch, capsys, data_dir):
    """`python train.py <words>`, in this process and in a folder of its own; gives status and stderr."""
    import conf.errors
    import train

    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(conf.errors, "FULL_ERROR", False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # which the program sets, so that it is put back
    monkeypatch.setattr(train, "fit", lambda *arguments: pytest.fail("a step was trained"))
    monkeypatch.setattr("hydra.core.utils.configure_log", lambda *config: None)  # which closes what pytest listens to

    def run(*words):
        prepared = [] if any("data" in word for word in words) else [f"data.data_dir={data_dir}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *prepared, *words])
        with pytest.raises(SystemExit) as end, train.one_sentence():
            train.main()
        errors = capsys.readouterr().err
        return (1, f"{errors}{end.value.code}\n") if isinstance(end.value.code, str) else (end.value.code, errors)

    return run


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_a_wrong_command_line_is_one_sentence_and_nothing_else(run_main, tmp_path, words):
    words, expected = words
    status, errors = run_main(*words)
    assert status == 1
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert expected in errors
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b", "c"]


def test_there_are_enough_of_them():
    assert len(WRONG) >= 60
    assert {word.split("=")[0].split(".")[0] for words, _ in WRONG.values() for word in words} >= {
        "data", "model", "latent", "rounding", "loss", "optimizer", "experiment",
    }  # fmt: skip


# Random right ones


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ten tiny pictures and ten tiny sounds: enough for two steps."""
    import soundfile
    from PIL import Image

    folder = tmp_path_factory.mktemp("examples")
    draw = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(draw.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{number}.png")
        soundfile.write(folder / f"{number}.wav", draw.uniform(-1, 1, 64), 1000)
    return folder


SIZES = st.integers(1, 9)
NUMBERS = st.one_of(st.floats(0.001, 100), st.sampled_from([0, 1, -1, 1e-30, 1e30]))
HYPERPARAMETERS = {
    "iterations": SIZES, "terms": SIZES, "power": SIZES, "window": st.sampled_from(["fejer", "none"]),
    "hard": st.booleans(), "at": st.sampled_from([0.01, 0.5, 0.99]),
}  # fmt: skip


@st.composite
def command_lines(draw):
    """Members of all groups, some of their keys set to values of the right type."""
    kind = draw(st.sampled_from(["images", "audio"]))
    words = [f"data=folder_{kind}", f"latent={draw(st.sampled_from(members('latent')))}"]
    words += [f"data.image_size=[{draw(SIZES)},{draw(SIZES)}]"] if kind == "images" else ["data.sample_rate_hz=1000"]
    words += [] if kind == "images" else ["data.clip_seconds=0.064"]
    models = {"image_mlp": ["widths"], "image_conv": ["channels"], "audio_conv": ["strides", "channels", "dilations"]}
    model = draw(st.sampled_from([*models, *(name for name in models if name[:3] == kind[:3])]))
    loss = draw(st.sampled_from([*members("loss"), "squared_error"]))
    words += [f"model={model}", f"loss={loss}", f"latent.normalize={str(draw(st.booleans())).lower()}"]
    count = draw(st.integers(1, 2))
    words += [
        f"model.{key}={draw(st.lists(SIZES, min_size=count, max_size=count))}".replace(" ", "") for key in models[model]
    ]
    words += [f"latent.units={draw(SIZES)}", f"optimizer.learning_rate={draw(st.floats(1e-6, 1))}"]
    rounding = draw(st.sampled_from(members("rounding")))
    words.append(f"rounding={rounding}")
    for key, value in compose([f"rounding={rounding}"]).rounding.items():
        if not key.startswith("_") and not hasattr(value, "items") and draw(st.booleans()):
            words.append(f"rounding.{key}={str(draw(HYPERPARAMETERS.get(key, NUMBERS))).lower()}")
    optimizer = draw(st.sampled_from(["AdamW", "SGD", "Lion", "Adafactor"]))
    return [*words, f"optimizer._target_=keras.optimizers.{optimizer}", "epochs=1", "batch_size=4", "threads=null"]


def works_or_is_refused(words, folders, output):
    """Trains two steps; a sentence is as good, a crash is not."""
    import json
    import shutil

    from train import train

    shutil.rmtree(output, ignore_errors=True)
    try:
        result = train(compose([*words, f"data.path={folders}", f"output_dir={output}"]))
    except ConfigError as error:
        problem = str(error)
        assert "\n" not in problem
        assert not output.exists()
        return
    assert result["status"] in ("finished", "diverged")
    assert json.loads((output / "result.json").read_text())["epochs"] == 1


QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@settings(max_examples=4, derandomize=True, deadline=None, database=None, suppress_health_check=QUIET)
@given(command_lines())
def test_a_random_configuration_works_or_is_refused(folders, tmp_path_factory, words):
    works_or_is_refused(words, folders, tmp_path_factory.getbasetemp() / "fuzz")


@pytest.mark.soak
@settings(max_examples=int(os.environ.get("EXAMPLES", 300)), deadline=None, database=None, suppress_health_check=QUIET)
@given(command_lines())
def test_many_random_configurations_work_or_are_refused(folders, tmp_path_factory, words):
    works_or_is_refused(words, folders, tmp_path_factory.getbasetemp() / "fuzz")
