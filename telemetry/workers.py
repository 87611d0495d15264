"""Runs of a sweep in processes of their own: what `hydra/launcher=joblib`, `ray` and the like need beside Hydra."""

import logging
import os
import signal
import threading
import time

from omegaconf import DictConfig, read_write

SECONDS_BETWEEN_LOOKS = 1.0


def prepare(launcher: DictConfig) -> None:
    """Before a sweep: lets joblib hand out runs one by one.

    By itself it measures how long they take, and the first ones of a sweep that is gone on with take no time at all, so
    that one worker would get many runs while the others have none.

    Args:
        launcher: Hydra's configuration of it; changed in place.
    """
    if "pre_dispatch" in launcher:
        with read_write(launcher):
            launcher.batch_size = "1"


def settle(sweeper: int) -> None:
    """In a run's process, before the run: leaves the console to the sweep, and ends with the sweep's process.

    What several runs say at once would be mixed; each has its `train.log`. Nor may they go on in secret when the
    sweep's process is killed, as joblib's would.

    Args:
        sweeper: the id of the sweep's process; nothing happens if it is this one.
    """
    if os.getpid() == sweeper:
        return
    silence()
    name = f"ends with {sweeper}"
    if os.getppid() == sweeper and not any(thread.name == name for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=[sweeper], name=name, daemon=True).start()


def silence() -> None:
    """Leaves the console to another process, but for warnings."""
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    while True:  # the first one ends the run, with a checkpoint, and the next one the process
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_BETWEEN_LOOKS)
