"""Uses what was trained: images and sounds as files of codes, and back.

python codec.py encode run=runs/... input=digit.png output=codes.rt     PNG, JPEG, WAV, FLAC, or a folder of them
python codec.py decode run=runs/... input=codes.rt output=digit.png     a folder, where a folder was encoded
python codec.py export run=runs/... output=exported                     a TensorFlow SavedModel, and TFLite
python codec.py inspect run=runs/... output=latent                      what each unit of the latent does, in pictures
python codec.py rates runs=runs/rate_distortion output=rates            rate and distortion of all runs below a folder

run= is a run's folder, as python train.py has written it. rates has PNG, JPEG, PCM and other formats beside the runs.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.checks import ConfigError
from conf.errors import one_sentence


def encode(run: Path, input: Path, output: Path) -> None:
    """Writes a file's, or a folder's, codes; decodes them again, and reports what that cost and gave."""
    from coding import codec, stored

    codec.encode(stored.load(run), input, output)


def decode(run: Path, input: Path, output: Path) -> None:
    """Writes the images or sounds of a file of codes."""
    from coding import codec, stored

    codec.decode(stored.load(run), input, output)


def export(run: Path, output: Path) -> None:
    """Writes the model in forms that other programs read."""
    from coding import stored
    from telemetry import output as place

    place.check_new(output)
    trained = stored.load(run)
    trained.start()
    from coding import export as forms

    forms.export(trained, output)


def inspect_(run: Path, output: Path) -> None:
    """Draws what the latent's units do."""
    from coding import stored
    from telemetry import output as place

    place.check_new(output)
    trained = stored.load(run)
    trained.start()
    from coding import walk

    walk.inspect(trained, output)


def rates(runs: Path, output: Path) -> None:
    """Counts the bytes of the runs' test sets, measures what is decoded, and draws both beside common formats."""
    from coding import rate_report
    from coding import rates as measuring
    from telemetry import output as place

    place.check_writable(output)
    rate_report.write(measuring.measure(runs), output)


ADVICE = "put quotes around odd names, as in 'input=\"7\"'"

COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__.rstrip("_"): command for command in (encode, decode, export, inspect_, rates)
}


def main(words: Sequence[str]) -> None:
    """Runs a command.

    Args:
        words: of the command line: the command, and `key=value`.

    Raises:
        ConfigError: there is no such command, or it has not these keys.
    """
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__)
        return
    name, *settings = words
    if name not in COMMANDS:
        raise ConfigError(f"there is no command {name}: choose from {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    command(**arguments(name, command, settings))


def arguments(name: str, command: Callable[..., None], words: Sequence[str]) -> dict[str, Path]:
    """The paths that a command takes, from `key=value` words.

    Raises:
        ConfigError: one is missing, empty or unknown.
    """
    keys = list(inspect.signature(command).parameters)
    usage = f"python codec.py {name} " + " ".join(f"{key}=..." for key in keys)
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_cli(list(words)), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {' '.join(words)}: {usage}; {ADVICE}") from error
    for key in values:
        if key not in keys:
            raise ConfigError(f"{name} has no key {key}: {usage}")
    for key in keys:
        if not (value := values.get(key)):
            raise ConfigError(f"{key} is missing: {usage}")
        if not isinstance(value, str):
            raise ConfigError(f"{key}={value} must be a path; {ADVICE}")
    return {key: Path(value).expanduser() for key, value in values.items()}


if __name__ == "__main__":
    with one_sentence():
        main(sys.argv[1:])
