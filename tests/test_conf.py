"""The configuration: every member composes, every YAML fits its constructor, every mistake is one sentence."""

import functools
import inspect
import re

import pytest
from conftest import ROOT, members
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import OmegaConf
from processes import command, forked

from conf import GROUPS, compose
from conf.checks import RULES, ConfigError, check
from conf.errors import sentence

MEMBERS = [(group, name) for group in GROUPS for name in members(group)]
composed = functools.cache(lambda group, name: compose([f"{group}={name}"]))  # a tenth of a second each time
# Arguments that the program passes, not the YAML.
PASSED = {"shape", "units", "u", "seed", "x", "x_hat"}


@pytest.mark.parametrize(("group", "name"), MEMBERS)
def test_member_composes_with_its_name_among_the_choices(group, name):
    assert composed(group, name).choices[group] == name


@pytest.mark.parametrize(("group", "name"), [m for m in MEMBERS if m[0] != "rounding"])
def test_yaml_spells_out_its_constructors_arguments(group, name):
    config = OmegaConf.load(ROOT / "conf" / group / f"{name}.yaml")
    parameters = inspect.signature(get_object(config["_target_"])).parameters
    passed = PASSED if "_partial_" in config else set()
    own = {key for key in config if not key.startswith("_")} - {"defaults"}
    assert own == set(parameters) - passed


@pytest.mark.parametrize(("group", "name"), MEMBERS)
def test_yaml_begins_with_the_command_that_uses_it(group, name):
    first = (ROOT / "conf" / group / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# python train.py ")
    assert f"{group}={name}" in first


def test_defaults_pass_the_checks():
    values = check(compose())
    assert values["choices"] == {
        "data": "mnist_5k",
        "model": "image_mlp",
        "latent": "binary",
        "rounding": "straight_through",
        "loss": "squared_error",
        "experiment": None,
    }


@pytest.mark.parametrize(
    "data",
    [
        name
        for name in members("data")
        if "/audio@_global_" in (OmegaConf.load(ROOT / "conf" / "data" / f"{name}.yaml").get("defaults", []))
    ],
)
def test_audio_brings_its_model_latent_and_loss_and_the_command_line_still_wins(data):
    cfg = compose([f"data={data}"])
    assert (cfg.choices.model, cfg.choices.latent, cfg.choices.loss) == ("audio_conv", "integer", "spectral")
    assert (cfg.epochs, cfg.optimizer.global_clipnorm) != (compose().epochs, compose().optimizer.global_clipnorm)
    words = ["latent=binary", "latent.units=3", "loss=squared_error", "epochs=5", "model=image_mlp", "batch_size=7"]
    cfg = compose([f"data={data}", *words])
    assert (cfg.choices.model, cfg.choices.latent, cfg.choices.loss) == ("image_mlp", "binary", "squared_error")
    assert (cfg.latent.units, cfg.epochs, cfg.batch_size) == (3, 5, 7)
    assert cfg.latent.keys() == compose().latent.keys()


@pytest.mark.parametrize("experiment", members("experiment"))
def test_an_experiment_says_its_command_and_passes_the_checks(experiment):
    text = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text()
    assert f"# python train.py experiment={experiment}\n" in text
    assert check(compose([f"experiment={experiment}"]))["choices"]["experiment"] == experiment
    swept = OmegaConf.create(text).hydra.sweeper.params
    for group in set(swept) & set(GROUPS):
        named = swept[group].split(",")
        assert named == ["glob(*)"] or set(named) <= set(members(group))


@pytest.mark.parametrize(("levels", "units"), [(2, 64), (4, 32), (16, 16), (256, 8), (5, 28)])
def test_units_follow_from_levels_at_equal_bits(levels, units):
    cfg = compose(["experiment=levels_at_equal_bits", f"latent.levels={levels}"])
    assert (cfg.latent.units, cfg.output_dir.split("/")[2]) == (units, f"{units}x{levels}")
    assert compose(["experiment=levels_at_equal_bits", "latent.units=3"]).latent.units == 3


def test_an_image_set_brings_nothing():
    default, other = compose(), compose(["data=mnist"])
    assert other.keys() == default.keys()
    for key in set(default) - {"data", "choices"}:
        assert other[key] == default[key]


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "latent_of").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_models_own_latent_size_is_of_keys_that_the_latent_has(path):
    model, _, latent = path.stem.rpartition("_")
    assert model in members("model")
    own = OmegaConf.load(path)
    assert set(own) <= set(OmegaConf.load(ROOT / "conf" / "latent" / f"{latent}.yaml"))
    cfg = compose([f"model={model}", f"latent={latent}"])
    assert {key: cfg.latent[key] for key in own} == own
    assert compose([f"model={model}", f"latent={latent}", "latent.units=3"]).latent.units == 3


def test_every_rule_is_about_a_key_that_exists():
    keys = {f"{group}.{key}" for group, name in MEMBERS for key in composed(group, name)[group]}
    keys |= {*compose(), *(f"optimizer.{key}" for key in compose().optimizer)}
    assert set(RULES) <= keys


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("epochs=0", "0"),
        ("epochs=-1", "-1"),
        ("epochs=1.5", "1.5"),
        ("epochs=many", "'many'"),
        ("epochs=null", "null"),
        ("epochs=true", "True"),
        ("epochs=[1]", "[1]"),
        ("batch_size=0", "0"),
        ("seed=-1", "-1"),
        ("seed=99999999999", "99999999999"),
        ("optimizer.learning_rate=0", "0"),
        ("optimizer.learning_rate=nan", "nan"),
        ("optimizer.learning_rate=inf", "inf"),
        ("optimizer.learning_rate=fast", "'fast'"),
        ("optimizer.weight_decay=-1", "-1"),
        ("optimizer.weight_decay=false", "False"),
        ("cache_gb=nan", "nan"),
        ("optimizer.weight_decay=abc", "'abc'"),
        ("optimizer=null", "null"),
        ("optimizer=3", "3"),
        ("output_dir=''", "''"),
        ("output_dir=' '", "' '"),
        ("output_dir=3", "3"),
        ("resume=yes please", "'yes please'"),
        ("threads=0", "0"),
        ("checkpoint_steps=0", "0"),
        ("jit_compile=1", "1"),
        ("latent.units=0", "0"),
        ("latent.normalize=maybe", "'maybe'"),
        ("data.data_dir=/does/not/exist", "'/does/not/exist'"),
        ("model.widths=[]", "[]"),
        ("model.widths=[0]", "[0]"),
        ("model.widths=64", "64"),
    ],
)
def test_value_out_of_range_is_refused_by_name_and_value(override, shown):
    with pytest.raises(ConfigError) as error:
        check(compose([override]))
    assert str(error.value).startswith(f"{override.split('=')[0]} must be ")
    assert str(error.value).endswith(f", got {shown}")


@pytest.mark.parametrize("override", ["latent.levels=1", "latent.levels=2.5", "latent.scale=0", "latent.levels=x"])
def test_integer_latents_values_are_refused_out_of_range(override):
    with pytest.raises(ConfigError, match=f"^{override.split('=')[0]} must be "):
        check(compose(["latent=integer", override]))


def test_levels_null_means_all_integers():
    assert check(compose(["latent=integer", "latent.levels=null"]))["latent"]["levels"] is None


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("override", ["~{}", "choices=null", "{}=[]"])
def test_a_group_needs_one_member(group, override):
    override = override.format(group)
    with pytest.raises((ConfigError, HydraException)) as caught:
        check(compose([override]))
    said = str(caught.value) if isinstance(caught.value, ConfigError) else sentence(caught.value, [override])
    assert re.match(r"\w+ needs exactly one member: |model and latent need one member each: audio_conv, ", said)


def test_an_interpolation_that_leads_nowhere_is_named():
    with pytest.raises(ValueError, match="nowhere"):
        check(compose(["epochs=${nowhere}"]))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["rounding=sof_round"], ["rounding=sof_round does not exist", "did you mean soft_round?", "straight_through"]),
        (["data=nope"], ["data=nope does not exist", "mnist_5k"]),
        (["epoch=3"], ["there is no key epoch", "did you mean epochs?"]),
        (["rounding=soft_round", "rounding.alhpa=3"], ["there is no key rounding.alhpa", "did you mean alpha?"]),
        (["rounding.alpha=3"], ["there is no key rounding.alpha", "rounding has none to set"]),
        (["rounding=soft_round", "alpha=3"], ["there is no key alpha", "did you mean rounding.alpha?"]),
        (["rounding.alpha"], ["cannot read 'rounding.alpha'", "key=value"]),
        (["latent.levels=3"], ["there is no key latent.levels", "units"]),
        (["hydra.foo=3"], ["there is no key hydra.foo"]),
        (["seed=1,2"], ["seed=1,2", "add -m"]),
        (["seed=["], ["cannot read 'seed=['", "put quotes"]),
        (["rounding=null"], ["rounding"]),
        (["optimizer.lr=1"], ["there is no key optimizer.lr"]),
        (["epochs=0"], ["epochs must be an integer from 1 to 2147483647, got 0"]),
        (["latent.units=0"], ["latent.units must be"]),
        (["-m", "seed=0,1", "epochs=0"], ["epochs must be"]),
    ],
)
def test_mistake_is_one_sentence_and_leaves_nothing_behind(words, parts, tmp_path):
    result = forked(*words, folder=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr
    assert list(tmp_path.rglob("config.yaml")) == []
    assert words[0] == "-m" or list(tmp_path.iterdir()) == []


def test_full_error_shows_the_traceback(tmp_path):
    result = command("epochs=0", HYDRA_FULL_ERROR="1", PWD=str(tmp_path))
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ConfigError" in result.stderr


def test_help_and_configuration_need_no_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    for words in (["--help"], ["--cfg", "job"], ["epochs=0"], ["rounding=nope"]):
        result = command(*words, PWD=str(tmp_path), PYTHONPATH=str(tmp_path))
        assert "TensorFlow was imported" not in result.stderr + result.stdout
        assert result.stdout or result.stderr.startswith("error: ")
