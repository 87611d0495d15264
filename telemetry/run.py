"""A run directory: where it is, whose it is, and the records in it that need no TensorFlow to read or write."""

import csv
import functools
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from omegaconf import ListConfig, OmegaConf

from conf import GROUPS, compose
from conf.checks import ConfigError

log = logging.getLogger(__name__)

# How a run is done, not what it is: these may differ when a run is gone on with.
INCIDENTAL = ("epochs", "output_dir", "resume", "evaluate", "threads", "choices", "data.data_dir")


class RunDirectory:
    """The folder of one run. Nothing is written before `claim`.

    Args:
        config: the run's configuration, resolved (`conf.checks.check` returns it).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.path = Path(config["output_dir"] or default_path(config))

    def finished(self) -> dict[str, Any] | None:
        """The stored `result.json`, if the run has ended well after all its epochs."""
        path = self.path / "result.json"
        result = json.loads(path.read_text()) if path.exists() else {}
        return result if result.get("status") == "finished" and result["epochs"] >= self.config["epochs"] else None

    def refuse_other_files(self) -> None:
        """Makes sure that the folder is free, or holds a run.

        Raises:
            ConfigError: it holds something else.
        """
        ours = (self.path / "config.yaml").exists() or not self.path.exists()
        if not ours and (not self.path.is_dir() or any(item.name != ".lock" for item in self.path.iterdir())):
            raise ConfigError(f"output_dir={self.path} exists and is not a run of ours: choose another output_dir")

    def refuse_other_run(self) -> None:
        """Makes sure that a run in the folder is this one, with as many epochs or fewer.

        Raises:
            ConfigError: it is another; the message names the keys that differ.
        """
        path = self.path / "config.yaml"
        stored, ours = yaml.safe_load(path.read_text()) if path.exists() else self.config, self.config
        differing = difference(stored, ours)
        if stored["epochs"] > ours["epochs"]:  # its learning rate fell more slowly: another run; more go on with it
            differing["epochs"] = stored["epochs"], ours["epochs"]
        if differing:
            shown = ", ".join(f"{key} ({_shown(a)} there, {_shown(b)} here)" for key, (a, b) in differing.items())
            raise ConfigError(
                f"{self.path} holds a run of another configuration, which differs in {shown}: "
                "choose another output_dir, or resume=false to move that run aside"
            )

    def move_aside(self) -> None:
        """Renames what is there to `<name>~1` (or `~2`, ...), so that the run can start over.

        Raises:
            ConfigError: another process is writing it.
        """
        if not self.path.exists():
            return
        path = self.path.absolute()
        aside = next(p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}~{n}")).exists())
        with self._lock():
            path.rename(aside)
        log.info("moved the run that was there to %s", aside)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Makes the folder, locks it against other processes, stores `config.yaml` and writes along in `train.log`.

        Raises:
            ConfigError: another process has it, or the folder can't be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"can't write to output_dir={self.path}: {error.strerror}") from error
        with self._lock(), _log_file(self.path / "train.log"):
            self.refuse_other_run()  # again: loading the data took a while
            self._set_old_result_aside()
            write_atomically(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False))
            try:
                yield
            except Exception as error:
                log.debug("the run failed", exc_info=True)  # for train.log: the console gets the error itself
                self.write_result({"status": "failed", "reason": f"{type(error).__name__}: {error}"})
                raise

    def _set_old_result_aside(self) -> None:
        # The run goes on, so that a result of fewer epochs must not pass for its own.
        path = self.path / "result.json"
        if not path.exists():
            return
        epochs = json.loads(path.read_text()).get("epochs", "failed")
        path.replace(path.with_name(f"result.{epochs}.json"))
        log.info("%d epochs after %s: not the same as %d at once", self.config["epochs"], epochs, self.config["epochs"])

    def _lock(self) -> AbstractContextManager[Any]:
        try:
            return FileLock(self.path / ".lock").acquire(blocking=False)
        except Timeout:
            raise ConfigError(f"{self.path} is being written by another process: wait for it to end") from None
        except OSError as error:
            raise ConfigError(f"can't write to output_dir={self.path}: {error.strerror}") from error

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Stores `result.json`; numbers that JSON has no word for become null."""
        write_atomically(self.path / "result.json", json.dumps(_finite(result), indent=2) + "\n")


class MetricsFile:
    """`metrics.csv`: a row an epoch, on disk as soon as the epoch ends.

    Args:
        path: of the file.
        epochs: how many of the rows already there are kept; those of later epochs are dropped.
    """

    def __init__(self, path: Path, epochs: int) -> None:
        self.path = path
        rows = [row for row in read_metrics(path) if int(row["epoch"]) <= epochs]
        self.columns = list(rows[0]) if rows else []
        text = "".join(",".join(line) + "\n" for line in [self.columns, *(row.values() for row in rows)] if line)
        write_atomically(path, text)

    def append(self, row: Mapping[str, float]) -> None:
        """Adds the row of an epoch; the first row gives the columns."""
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns or sorted(row, key=_column_order), lineterminator="\n")
            if not self.columns:
                self.columns = list(writer.fieldnames)
                writer.writeheader()
            writer.writerow(row)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a `metrics.csv`, without a last one cut short; empty where the file is missing."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


def default_path(config: Mapping[str, Any]) -> Path:
    """`runs/<data>/<model>/<latent>/<rounding>/<what else differs from the groups' defaults>/seed=<n>`."""
    choices = [config["choices"][group] for group in GROUPS]
    parts = [*choices, *filter(None, [settings(config)])]
    return Path("runs", *(_safe_name(part) for part in parts), f"seed={config['seed']}")


def settings(config: Mapping[str, Any], incidental: Sequence[str] = INCIDENTAL) -> str:
    """What a configuration sets other than its groups' members do by themselves, as `key=value,key=value`.

    Args:
        config: resolved.
        incidental: keys to leave out, beside the seed.
    """
    defaults = _defaults(*(f"{group}={config['choices'][group]}" for group in GROUPS))
    differing = difference(defaults, config, [*incidental, "seed"])
    return ",".join(f"{key}={_shown(ours)}" for key, (_, ours) in differing.items())


def difference(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], incidental: Sequence[str] = INCIDENTAL
) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two configurations differ, each with both values (None where it is missing)."""
    flat_theirs, flat_ours = _flat(theirs), _flat(ours)
    return {
        key: (flat_theirs.get(key), flat_ours.get(key))
        for key in {**flat_ours, **flat_theirs}
        if flat_theirs.get(key) != flat_ours.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in incidental)
    }


@functools.cache
def _defaults(*choices: str) -> Any:
    return OmegaConf.to_container(compose(choices))


def write_atomically(path: Path, text: str) -> None:
    """Writes a small text file so that a reader, or a crash, sees the old one or the new one."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text)
    os.replace(draft, path)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    for name in ("train", "telemetry"):  # whatever the console shows, train.log has all
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _column_order(name: str) -> tuple[bool, bool, bool, str]:
    return name != "epoch", name != "loss", not name.startswith("val_"), name


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, Mapping):
        return {prefix: config}
    return {k: v for name, node in config.items() for k, v in _flat(node, f"{prefix}.{name}".lstrip(".")).items()}


def _shown(value: Any) -> str:
    if isinstance(value, list | ListConfig):
        return "-".join(map(_shown, value))
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _safe_name(text: str, longest: int = 100) -> str:
    name = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", text).strip("-.") or "-"
    if name == text and len(name) <= longest:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: longest - 9]}-{digest}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
