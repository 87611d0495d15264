"""A search: the settings that a study of Optuna's tries, where the study stays, and what it found."""

import math
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from optuna.trial import TrialState

from conf.checks import ConfigError

Suggestion = Callable[[optuna.Trial], str]


class Space:
    """The settings that may be tried.

    Args:
        parser: Hydra's.
        words: `key=value`, where the value is one, or several: `choice(a, b)`, `range(1, 9)`, `interval(0.1, 1)`,
            `tag(log, interval(0.1, 1))`, `tag(int, interval(1, 9))`. Of words about the same key, the last one counts.
        words_of: more of them for trials in which one of `words` has a certain value, such as `rounding=soft_round`.

    Raises:
        ConfigError: there is nothing to choose from, or no trial can fulfil a condition.
    """

    def __init__(self, parser: OverridesParser, words: Sequence[str], words_of: Mapping[str, Sequence[str]]) -> None:
        self.settings = _by_key(parser.parse_overrides(list(words)))
        self.settings_of = {condition: _by_key(parser.parse_overrides(list(of))) for condition, of in words_of.items()}
        if not any(override.is_sweep_override() for override in self.settings.values()):
            raise ConfigError("a search needs settings to choose from, as in 'rounding.alpha=interval(1,16)'")
        for condition in self.settings_of:
            if condition.partition("=")[0] not in self.settings:
                raise ConfigError(f"hydra.sweeper.params_of: {condition} is about a key that is not searched")

    def description(self) -> dict[str, object]:
        """All of it as text, to be compared with that of another session."""
        lines = {condition: [o.input_line for o in of.values()] for condition, of in self.settings_of.items()}
        return {"words": [override.input_line for override in self.settings.values()], "words_of": lines}

    def words(self, trial: optuna.Trial) -> list[str]:
        """What a trial tries, as `key=value`."""
        chosen = {key: f"{key}={_suggestion(override)(trial)}" for key, override in self.settings.items()}
        for condition, settings in self.settings_of.items():
            if condition in chosen.values():
                more = {key: f"{key}={_suggestion(override)(trial)}" for key, override in settings.items()}
                chosen = {**chosen, **more}
        return list(chosen.values())


def _by_key(overrides: Sequence[Override]) -> dict[str, Override]:
    return {override.get_key_element(): override for override in overrides}


def _suggestion(override: Override) -> Suggestion:
    key = override.get_key_element()
    kind, value = override.value_type, cast(Any, override.value())
    if not override.is_sweep_override():
        return lambda trial: override.get_value_element_as_str()
    log = "log" in getattr(value, "tags", ())
    if kind == ValueType.INTERVAL_SWEEP and "int" in value.tags:
        low, high = int(value.start), int(value.end)
        return lambda trial: str(trial.suggest_int(key, low, high, log=log))
    if kind == ValueType.INTERVAL_SWEEP:
        low, high = value.start, value.end
        return lambda trial: f"{trial.suggest_float(key, low, high, log=log):.4g}"
    if kind == ValueType.RANGE_SWEEP and all(isinstance(x, int) for x in (value.start, value.stop, value.step)):
        numbers = range(value.start, value.stop, value.step)
        return lambda trial: str(trial.suggest_int(key, numbers[0], numbers[-1], step=numbers.step))
    return lambda trial: trial.suggest_categorical(key, list(override.sweep_string_iterator()))


class Study:
    """Trials, kept in `study.db`; what the next one tries follows from the trials before it and from the seed alone.

    Args:
        folder: of the sweep.
        space: what to try.
        seed: of the choices.

    Raises:
        ConfigError: what is there is another search, or damaged.
    """

    def __init__(self, folder: Path, space: Space, seed: int) -> None:
        self.folder, self.space, self.seed = folder, space, seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.create_study(
                storage=f"sqlite:///{folder}/study.db", study_name="search", load_if_exists=True
            )
            stored = self.study.user_attrs.setdefault("space", space.description())
        except Exception as error:  # SQLAlchemy's, Alembic's, SQLite's, Optuna's
            raise ConfigError(f"{folder}/study.db cannot be read: delete it to begin anew ({error})") from error
        if stored != space.description():
            raise ConfigError(
                f"{folder}/study.db is a search among other settings: delete it to begin anew, or keep it with "
                "another hydra.sweep.dir=..."
            )
        self.study.set_user_attr("space", stored)
        self.handed_out: set[int] = set()

    def next_batch(self, trials: int, size: int) -> list[tuple[int, list[str]]]:
        """Numbers and words of the trials to do next: first those that an earlier session has not ended.

        Each once in a session: one that is never told its loss is for the next session to try again.

        Args:
            trials: of the whole study.
            size: how many at a time.
        """
        running = [trial for trial in self._trials(TrialState.RUNNING) if trial.number not in self.handed_out]
        for trial in running:
            if "words" not in trial.user_attrs:  # killed while it chose
                self.study.tell(trial.number, state=TrialState.FAIL)
        batch = [(trial.number, trial.user_attrs["words"]) for trial in running if "words" in trial.user_attrs]
        while len(batch) < size and len(self._trials(TrialState.RUNNING, TrialState.COMPLETE)) < trials:
            batch.append(self._ask())
        self.handed_out.update(number for number, _ in batch)
        return batch

    def _trials(self, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _ask(self) -> tuple[int, list[str]]:
        (seed,) = np.random.SeedSequence([self.seed, len(self._trials())]).generate_state(1)
        self.study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        trial = self.study.ask()
        words = self.space.words(trial)
        trial.set_user_attr("words", words)
        return trial.number, words

    def tell(self, number: int, val_loss: float) -> None:
        """Takes note of a trial's end; an infinite loss is the worst."""
        self.study.tell(number, val_loss)

    def conclude(self) -> str:
        """Writes `optimization_results.yaml` and pictures; returns a line about the best trial."""
        values = [trial.value for trial in self._trials(TrialState.COMPLETE)]
        finished = [value for value in values if value is not None and math.isfinite(value)]
        if not finished:
            return "no trial has finished"
        best = self.study.best_trial
        results = {"name": "optuna", "best_value": best.value, "best_params": dict(best.params)}
        (self.folder / "optimization_results.yaml").write_text(yaml.safe_dump(results, sort_keys=False))
        _draw(self.study, self.folder)
        words = shlex.join(best.user_attrs["words"])
        return f"the best of {len(finished)} trials again: python train.py hydra.mode=RUN {words}"


def _draw(study: optuna.Study, folder: Path) -> None:
    from matplotlib import rc_context
    from optuna.visualization import matplotlib

    from telemetry.rendering import png

    plots: dict[str, Callable[..., Any]] = {
        "history": matplotlib.plot_optimization_history,
        "importance": matplotlib.plot_param_importances,
        "slices": matplotlib.plot_slice,
    }
    for name, plot in plots.items():
        with rc_context(), warnings.catch_warnings():  # Optuna sets its style for good
            warnings.simplefilter("ignore")  # of parameters that few trials have, of experimental pictures
            axes = np.ravel(plot(study, target_name="val_loss"))
            figure = axes[0].figure
            figure.set_size_inches(max(8, 2.2 * len(axes)), 5)
            for axis in axes if name == "slices" else ():
                axis.tick_params(axis="x", which="both", rotation=90)
            figure.set_layout_engine("constrained")
            (folder / f"{name}.png").write_bytes(png(figure))
