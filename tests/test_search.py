"""Searches: what trials may try, that a study goes on where it was stopped, and one through the command line."""

import csv
import json
import math

import numpy as np
import pytest
import yaml
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image
from processes import command, forked

from conf import compose
from conf.checks import ConfigError, check

WORDS = ["rounding=cubic,soft_round,sga", "optimizer.learning_rate=tag(log,interval(0.0001,0.1))", "seed=range(2,9,3)"]
WORDS_OF = {"rounding=soft_round": ["rounding.alpha=interval(1,4)"]}


def space(words=WORDS, words_of=WORDS_OF):
    from telemetry.search import Space

    return Space(OverridesParser.create(), words, words_of)


def study(folder, **changes):
    from telemetry.search import Study

    return Study(folder, space(**changes), seed=0)


def loss(words):
    """Some function of the settings that has a least value; infinite for one of them."""
    values = dict(word.split("=") for word in words)
    if values["rounding"] == "sga":
        return math.inf
    return abs(math.log(float(values["optimizer.learning_rate"]) / 0.003)) + float(values.get("rounding.alpha", 2)) / 10


def search(folder, trials, size):
    """A whole search; returns all words in order."""
    tried = study(folder)
    while batch := tried.next_batch(trials, size):
        for number, words in batch:
            tried.tell(number, loss(words))
    return tried


def words_of(tried):
    return [trial.user_attrs["words"] for trial in tried.study.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search of 16 trials, one at a time."""
    return search(tmp_path_factory.mktemp("whole"), 16, 1)


def test_trials_try_what_the_space_allows(whole):
    seen = {"rounding": set(), "seed": set()}
    for words in words_of(whole):
        values = dict(word.split("=") for word in words)
        for key, values_seen in seen.items():
            values_seen.add(values[key])
        assert 1e-4 <= float(values["optimizer.learning_rate"]) <= 0.1
        assert ("rounding.alpha" in values) == (values["rounding"] == "soft_round")
        assert 1 <= float(values.get("rounding.alpha", 1)) <= 4
    assert compose(words).rounding, "the program takes them"
    assert seen == {"rounding": {"cubic", "soft_round", "sga"}, "seed": {"2", "5", "8"}}


def test_a_search_learns(whole):
    losses = [trial.value for trial in whole.study.trials]
    finite = [value for value in losses if math.isfinite(value)]
    assert math.inf in losses
    assert whole.study.best_value == min(finite)
    chosen = [dict(word.split("=") for word in words)["rounding"] for words in words_of(whole)]
    assert chosen[10:].count("sga") < chosen[:10].count("sga"), "what diverges is avoided"


def test_a_search_that_is_killed_anywhere_goes_on_as_if_it_had_not_been(whole, tmp_path):
    for _ in range(12):  # a new process each time, so to speak
        study(tmp_path).next_batch(12, 1)
        ((number, words),) = study(tmp_path).next_batch(12, 1)
        study(tmp_path).tell(number, loss(words))
    assert study(tmp_path).next_batch(12, 1) == []
    assert words_of(study(tmp_path)) == words_of(whole)[:12]


def test_a_batch_that_was_killed_is_done_before_anything_else(tmp_path):
    tried = study(tmp_path)
    first = tried.next_batch(10, 3)
    assert len(first) == 3
    tried.tell(first[0][0], 1.0)
    assert study(tmp_path).next_batch(10, 2) == first[1:]
    assert study(tmp_path).next_batch(10, 3)[:2] == first[1:]


def test_a_trial_that_was_killed_while_it_chose_is_replaced(tmp_path):
    study(tmp_path).study.ask()
    ended = [trial for trial in search(tmp_path, 3, 1).study.trials if trial.value is not None]
    assert len(ended) == 3


def test_a_trial_that_failed_is_tried_again_by_the_next_session_alone(tmp_path):
    tried, seen = study(tmp_path), []
    while batch := tried.next_batch(4, 2):
        seen += batch
        tried.tell(batch[0][0], 1.0)
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    assert study(tmp_path).next_batch(4, 2) == [seen[1], seen[3]]


def test_the_number_of_trials_is_in_all(tmp_path):
    assert len(search(tmp_path, 3, 2).study.trials) == 3
    assert len(search(tmp_path, 4, 2).study.trials) == 4
    assert len(search(tmp_path, 2, 2).study.trials) == 4


def test_conclusion_names_the_best_and_draws(whole):
    import matplotlib

    background = matplotlib.rcParams["axes.facecolor"]
    line = whole.conclude()
    assert matplotlib.rcParams["axes.facecolor"] == background, "other pictures look as they did"
    best = min((trial for trial in whole.study.trials), key=lambda trial: trial.value)
    assert line.endswith(f"python train.py hydra.mode=RUN {' '.join(best.user_attrs['words'])}")
    stored = yaml.safe_load((whole.folder / "optimization_results.yaml").read_text())
    assert stored["best_value"] == best.value
    assert stored["best_params"]["rounding"] in best.user_attrs["words"][0]
    for name in ("history", "importance", "slices"):
        assert np.asarray(Image.open(whole.folder / f"{name}.png").convert("L")).std() > 10


def test_conclusion_without_a_good_end(tmp_path):
    tried = study(tmp_path)
    assert tried.conclude() == "no trial has finished"
    ((number, _),) = tried.next_batch(1, 1)
    tried.tell(number, math.inf)
    assert tried.conclude() == "no trial has finished"


@pytest.mark.parametrize("count", [1, 2])
def test_conclusion_of_few_trials(tmp_path, count):
    assert search(tmp_path, count, 1).conclude()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": ["seed=1"]}, "needs settings to choose from"),
        ({"words_of": {"latent=binary": []}}, "latent=binary is about a key that is not searched"),
    ],
)
def test_a_space_with_nothing_to_try_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        space(**changes)


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    search(tmp_path, 2, 1)
    with pytest.raises(ConfigError, match="a search among other settings: delete it"):
        study(tmp_path, words=["rounding=cubic,sine", *WORDS[1:]])
    assert len(study(tmp_path).study.trials) == 2


def test_a_damaged_study_is_named(tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database " * 1000)
    with pytest.raises(ConfigError, match=r"study.db cannot be read: delete it to begin anew"):
        study(tmp_path)


def test_the_ready_search_may_try_all_that_it_names():
    sweeper = OmegaConf.load(ROOT / "conf" / "experiment" / "search.yaml").hydra.sweeper
    for condition, params in sweeper.params_of.items():
        group, _, name = condition.partition("=")
        assert name in sweeper.params[group].split(",")
        compose(["experiment=search", condition, *(f"{key}=1" for key in params)])
    for units in (8, 13, 64):
        config = check(compose(["experiment=search", f"latent.units={units}"]))
        assert 60 < units * math.log2(config["latent"]["levels"]) <= 64


def test_a_search_from_the_command_line_goes_on(tmp_path, data_dir):
    tiny = ["epochs=1", "batch_size=500", "model.widths=[16]", f"data.data_dir={data_dir}"]
    words = ["experiment=search", *tiny]
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    first = command(*words, *parallel, "hydra.sweeper.trials=2", PWD=str(tmp_path))
    assert (first.returncode, first.stderr) == (0, "")
    assert "run 2 of 2 finished" in first.stdout
    assert "epoch" not in first.stdout.replace("epochs=1", ""), "what runs say side by side would be mixed"
    second = forked(*words, "hydra.sweeper.trials=2", folder=tmp_path)
    assert (second.returncode, second.stderr) == (0, "")
    assert "2 of them are there already" in second.stdout
    assert second.stdout.count(" finished in ") == 0
    (table,) = tmp_path.glob("runs/search/sweeps/*/runs.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"]: row["status"] for row in rows} == {number: "finished" for number in "12"}
    for row in rows:
        result = json.loads((tmp_path / row["path"] / "result.json").read_text())
        assert result["val_loss"] == float(row["val_loss"])
        assert result["config"]["threads"] >= 1, "two workers divide the cores"
    best = min(rows, key=lambda row: float(row["val_loss"]))
    (line,) = [line for line in second.stdout.splitlines() if line.startswith("the best of 2 trials again: ")]
    assert set(best["settings"].split()) <= set(line.split())
    best_words = line.split("python train.py ")[1].replace("'", "").split()
    assert "is finished" in forked(*best_words, folder=tmp_path).stdout
    (tmp_path / "alone").mkdir()
    assert "val_soft_loss" in (tmp_path / best["path"] / "train.log").read_text()
    threads = json.loads((tmp_path / best["path"] / "result.json").read_text())["config"]["threads"]
    assert forked(*best_words, f"threads={threads}", folder=tmp_path / "alone").returncode == 0
    alone, beside_another = (folder / best["path"] / "metrics.csv" for folder in (tmp_path / "alone", tmp_path))
    assert alone.read_bytes() == beside_another.read_bytes()


def test_a_search_whose_data_was_away_tries_again(tmp_path):
    pictures = tmp_path / "pictures"
    tiny = ["data=folder_images", f"data.path={pictures}", "epochs=1", "batch_size=5", "model.widths=[16]"]
    words = ["experiment=search", *tiny, "hydra.sweeper.trials=2"]
    away = forked(*words, folder=tmp_path)
    assert away.returncode == 1
    assert "2 of 2 runs failed" in away.stderr
    pictures.mkdir()
    for number in range(40):
        Image.fromarray(np.full((28, 28), 6 * number, np.uint8)).save(pictures / f"{number}.png")
    there = forked(*words, folder=tmp_path)
    assert (there.returncode, there.stderr) == (0, "")
    assert "are there already" not in there.stdout
    assert "the best of 2 trials again: " in there.stdout
