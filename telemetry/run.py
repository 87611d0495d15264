"""A run directory: where it is, whose it is, and the records in it that need no TensorFlow to read or write."""

import hashlib
import json
import logging
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from conf import GROUPS
from conf.checks import ConfigError
from conf.settings import NAMED_IN_PATHS, difference, settings, shown
from conf.workers import is_chief
from telemetry.records import DRAFT, write_atomically
from telemetry.trouble import enough_memory, writable
from telemetry.workers import silence

log = logging.getLogger(__name__)


NEEDED = ("epochs", "val_loss", "test_loss")
"""Numbers that the result of a finished run has in any case."""


class Busy(ConfigError):
    """Another process has the run directory."""


class RunDirectory:
    """The folder of one run. Nothing is written before `claim`.

    Args:
        config: the run's configuration, resolved (`conf.checks.check` returns it).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.path = Path(config["output_dir"] or default_path(config)).expanduser()

    def finished(self) -> dict[str, Any] | None:
        """The stored `result.json`, if the run has ended well after all its epochs and there is nothing else to do.

        Raises:
            ConfigError: it is damaged.
        """
        if not self.config["resume"] or self.config["evaluate"]:
            return None
        result = self._result()
        return result if result.get("status") == "finished" and result["epochs"] >= self.config["epochs"] else None

    def refuse_other_files(self) -> None:
        """Makes sure that the folder is free, or holds a run.

        Raises:
            ConfigError: it holds something else.
        """
        with writable(self.path):
            ours = (self.path / "config.yaml").exists() or not self.path.exists()
            if not ours and (not self.path.is_dir() or any(map(_is_not_ours, self.path.iterdir()))):
                raise ConfigError(f"output_dir={self.path} exists and is not a run of ours: choose another output_dir")

    def refuse_other_run(self) -> None:
        """Makes sure that a run in the folder is this one, with as many epochs or fewer.

        Raises:
            ConfigError: it is another; the message names the keys that differ.
        """
        stored, ours = self.stored(), self.config
        differing = difference(stored, ours)
        if stored["epochs"] > ours["epochs"]:  # its learning rate fell more slowly: another run; more go on with it
            differing["epochs"] = stored["epochs"], ours["epochs"]
        if differing:
            choices = difference(stored["choices"], ours["choices"])  # all other differences may follow from these
            differing = {group: pair for group, pair in choices.items() if group in GROUPS} or differing
            keys = ", ".join(f"{key} ({shown(a)} there, {shown(b)} here)" for key, (a, b) in differing.items())
            raise ConfigError(
                f"{self.path} holds a run of another configuration, which differs in {keys}: "
                "choose another output_dir, or resume=false to move that run aside"
            )

    def stored(self) -> dict[str, Any]:
        """The configuration of the run that is there; ours if there is none.

        Raises:
            ConfigError: it is damaged.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            return self.config
        try:
            stored = yaml.safe_load(path.read_text())
            if not (type(stored["epochs"]) is int and isinstance(stored["choices"], dict)):
                raise ValueError("no configuration of a run")
        except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path} is damaged: resume=false moves that run aside and starts over") from error
        return stored

    def move_aside(self) -> None:
        """Renames what is there to `<name>~1` (or `~2`, ...), so that the run can start over.

        Raises:
            Busy: another process is writing it.
        """
        if not self.path.exists():
            return
        path = self.path.absolute()
        aside = next(p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}~{n}")).exists())
        with self._lock(), writable(self.path):
            path.rename(aside)
        log.info("moved the run that was there to %s", aside)

    @contextmanager
    def of_this_process(self) -> Iterator["RunDirectory"]:
        """This one; for a worker that is not the chief, another one that ends with it: it does as the chief does."""
        if self.config["distribute"] != "multi_worker" or is_chief():
            yield self
            return
        silence()
        with tempfile.TemporaryDirectory() as folder:
            yield RunDirectory({**self.config, "output_dir": f"{folder}/run"})

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Makes the folder, locks it against other processes, stores `config.yaml` and writes along in `train.log`.

        Raises:
            Busy: another process has it, or has just finished it.
            ConfigError: the folder can't be made or written to, or has become another run's; or the memory ends.
        """
        with writable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._lock(), writable(self.path):
            self.refuse_other_run()  # again: loading the data took a while
            if self.finished():
                raise Busy(f"{self.path} has just been finished by another process")
            for draft in self.path.rglob(f"{DRAFT}*"):
                draft.unlink()  # a kill left it
            # First of all files: it says that the folder is ours.
            write_atomically(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False))
            with _log_file(self.path / "train.log"):
                self._set_old_result_aside()
                with self._recorded():
                    yield

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        try:
            with enough_memory(), writable(self.path):
                yield
        except Exception as error:
            log.debug("the run failed", exc_info=True)  # for train.log: the console gets the error itself
            reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            with suppress(OSError):  # which may be why it failed
                self.write_result({"status": "failed", "reason": reason})
            raise
        except KeyboardInterrupt as error:
            log.debug("interrupted: %r", error)
            raise

    def _set_old_result_aside(self) -> None:
        # The run goes on, so that a result of fewer epochs, or a failure, must not pass for its own.
        path, epochs = self.path / "result.json", self.config["epochs"]
        if not path.exists():
            return
        result = self._result()
        done = result.get("epochs", "failed")
        path.replace(path.with_name(f"result.{safe_name(str(done))}.json"))
        if result.get("status") == "finished" and done != epochs:
            log.info("%d epochs after a run of %s: not the same as %d at once", epochs, done, epochs)

    def _result(self) -> dict[str, Any]:
        path = self.path / "result.json"
        try:
            result = json.loads(path.read_text()) if path.exists() else {}
            if result.get("status") == "finished" and not all(isinstance(result[key], int | float) for key in NEEDED):
                raise ValueError("no numbers")
            return result
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{path} is damaged: delete it, and the same command goes on with the run") from error

    def _lock(self) -> AbstractContextManager[Any]:
        try:
            with writable(self.path):
                return FileLock(self.path / ".lock").acquire(blocking=False)
        except Timeout:
            raise Busy(f"{self.path} is being written by another process: wait for it to end") from None

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Stores `result.json`; numbers that JSON has no word for become null."""
        write_atomically(self.path / "result.json", json.dumps(_finite(result), indent=2) + "\n")


def default_path(config: Mapping[str, Any]) -> Path:
    """`<runs>/<data>/<model>/<latent>/<rounding>/<what else differs from the groups' defaults>/seed=<n>`."""
    choices = [config["choices"][group] for group in NAMED_IN_PATHS]
    parts = [*choices, *filter(None, [settings(config)])]
    return Path(config["runs"], *(safe_name(part) for part in parts), f"seed={config['seed']}")


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = _LogFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    for name in ("train", "telemetry"):  # whatever the console shows, train.log has all
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing: where a line can't be written, the next epoch's row can't either, and that one is told."""


def _is_not_ours(item: Path) -> bool:
    return not item.name.startswith((".lock", DRAFT))


def safe_name(text: str, longest: int = 100) -> str:
    """For a folder: the text itself if it will do, otherwise something like it, with a digest of it at the end."""
    name = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", text).strip("-.") or "-"
    if name == text and len(name) <= longest:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name[: longest - 9]}-{digest}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
