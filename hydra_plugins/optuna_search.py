"""`hydra/sweeper=optuna` (conf/hydra/sweeper/optuna.yaml); here, since Hydra looks for plugins nowhere else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class OptunaSearch(Sweeper):
    """Lets Optuna choose settings, so many trials in all: a search that goes on does those that are missing.

    Args:
        trials: of the search, earlier sessions' included.
        at_once: how many are chosen before any of them has ended; None: as many as joblib's launcher has workers.
        seed: of the choices.
        params: `telemetry.search.Space`'s words as `key: values`; those of the command line count more.
        params_of: more of them by condition.
    """

    def __init__(
        self,
        trials: int,
        at_once: int | None = None,
        seed: int = 0,
        params: Mapping[str, str] | None = None,
        params_of: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.trials, self.at_once, self.seed = trials, at_once or 0, seed
        self.params, self.params_of = params or {}, params_of or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """As Hydra calls it."""
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        workers = OmegaConf.select(config, "hydra.launcher.n_jobs")
        self.at_once = self.at_once or (joblib.effective_n_jobs(workers) if workers else 1)

    def sweep(self, arguments: list[str]) -> Any:
        """Searches.

        Args:
            arguments: the command line's words.
        """
        from telemetry.search import Space, Study

        of = {condition: _words(params) for condition, params in self.params_of.items()}
        space = Space(self.parser, [*_words(self.params), *arguments], of)
        study = Study(self.folder, space, self.seed)
        while batch := study.next_batch(self.trials, self.at_once):
            results = self.launcher.launch([words for _, words in batch], initial_job_idx=batch[0][0])
            for (number, _), result in zip(batch, results, strict=True):
                if result.return_value is not None:  # otherwise it failed, and another session tries it again
                    study.tell(number, result.return_value)
        print(study.conclude(), flush=True)


def _words(params: Mapping[str, str]) -> Sequence[str]:
    return [f"{key}={value}" for key, value in params.items()]
