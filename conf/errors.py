"""One sentence for a user's mistake, where Hydra prints paragraphs and Python a traceback."""

import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from conf import GROUPS, compose
from conf.checks import ConfigError, first_line, members
from conf.signals import Interrupted, at_once, handling


class RunFailed(Exception):
    """A run that started and came to no good end: its message says why."""


# What is not in requirements.txt; our own slurm and ray_cluster are settings of these.
LAUNCHERS = {
    "ray": "hydra-ray-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}

# As the user set it: `one_sentence` sets it, too, or Hydra would print its own account and exit before we can.
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def one_sentence(config_name: str = "config") -> Iterator[None]:
    """Around a Hydra application and its task: a mistake becomes one sentence on stderr and exit status 1.

    With HYDRA_FULL_ERROR=1 in the environment, exceptions pass. Ctrl-C and SIGTERM end with 130 and 143 in any case.

    Args:
        config_name: the application's.
    """
    with _one_line_if_interrupted(), contextlib.nullcontext() if FULL_ERROR else _one_sentence(config_name):
        yield


@contextmanager
def _one_line_if_interrupted() -> Iterator[None]:
    try:
        with handling(at_once, signal.SIGTERM):
            yield
    except KeyboardInterrupt as error:
        again = "run the same command again" + (", without resume=false," if "resume=false" in sys.argv else "")
        print(f"\ninterrupted: {again} to go on", file=sys.stderr)
        sys.exit(128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT))


@contextmanager
def _one_sentence(config_name: str) -> Iterator[None]:
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except (ConfigError, RunFailed) as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {sentence(error, sys.argv[1:], config_name)}")
    except ValueError as error:
        if not str(error).startswith("Config group override"):  # Hydra's own, for `rounding=null` and the like
            raise
        sys.exit(f"error: a group ({', '.join(GROUPS)}) takes the name of one of its members")
    except ConnectionError as error:  # a launcher's, to its cluster
        sys.exit(f"error: {first_line(error)}")


@contextmanager
def explained(choice: str) -> Iterator[None]:
    """Names the choice at fault where a strategy, the data or the model refuses its arguments.

    They raise ValueError, or TypeError for an argument that they don't have (`+key=value`), which Hydra wraps
    when it was the constructor that spoke; ImportError where `_target_` leads nowhere.

    Raises:
        ConfigError: in the place of those.
    """
    try:
        yield
    except (ValueError, TypeError, InstantiationException) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(cause, ImportError):
            raise ConfigError(f"{choice}: {first_line(error).partition(',')[0]}") from error
        if not isinstance(cause, ValueError | TypeError):
            raise
        raise ConfigError(f"{choice}: {cause}") from error


def sentence(error: Exception, overrides: Sequence[str], config_name: str = "config") -> str:
    """One sentence for what Hydra refused, instead of its paragraphs.

    Args:
        error: what Hydra or OmegaConf raised.
        overrides: the command line's `key=value` words.
        config_name: the application's.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and name in LAUNCHERS:
            return f"hydra/launcher={name} is in a package of its own: pip install {LAUNCHERS[name]}"
        known = {**LAUNCHERS, "joblib": None} if group == "hydra/launcher" else {}
        return f"{group}={name} does not exist: {_hint(name, sorted({*members(group), *known}))}"
    if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(str(error.__cause__.full_key), overrides, config_name)
    if isinstance(error, OverrideParseException):
        advice = "write key=value without spaces, and put quotes around odd values, as in 'key=\"value\"'"
        return f"cannot read {error.override!r}: {advice}"
    if str(error).startswith("Ambiguous value"):
        return f"{first_line(error).split(chr(39))[1]}: to run with each of these values, add -m (a sweep)"
    if str(error).startswith("Error resolving interpolation '${model}_${latent}'"):
        return f"model and latent need one member each: {', '.join(members('model'))}; {', '.join(members('latent'))}"
    if str(error).startswith("Could not override 'latent_of"):
        return "latent_of follows from model and latent: set latent.units and latent.levels instead"
    return " ".join(str(error).split("\n\n")[0].split())


def _unknown_key(key: str, overrides: Sequence[str], config_name: str) -> str:
    choices = [word for word in overrides if word.partition("=")[0].partition("@")[0] in GROUPS]
    config: Any = OmegaConf.to_container(compose(choices, config_name))
    config.pop("choices", None)  # nobody is to set them
    if below := [f"{section}.{key}" for section, node in config.items() if isinstance(node, dict) and key in node]:
        return f"there is no key {key}: did you mean {' or '.join(below)}?"
    *parents, name = key.split(".")
    for parent in parents:
        config = config.get(parent, {})
    known = [candidate for candidate in config if not candidate.startswith("_")]
    return f"there is no key {key}: {_hint(name, known) if known else f'{parents[-1]} has none to set'}"


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}choose from {', '.join(known) or 'none'}"
