"""`train.py` as a process of its own, or, seconds cheaper, as a fork of one that has TensorFlow imported already."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["keras", "matplotlib.figure", "tensorflow", "tensorflow_datasets", "hydra"])


def command(*words, **environment):
    """`python train.py <words>` in the folder `PWD`."""
    environment = {**ENVIRONMENT, **environment}
    line = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=environment.get("PWD"))


def forked(*words, folder):
    """The same, in a folder; not for what is about how a process starts, nor for parallel launchers."""
    with tempfile.TemporaryDirectory() as log:
        process = begin(words, folder, log)
        process.join()
        output = [Path(log, name).read_text() for name in ("1", "2")]
    return subprocess.CompletedProcess(words, process.exitcode, *output)


def begin(words, folder, log, **environment):
    """The same, not waited for; the files `1` and `2` in `log` get what it says."""
    process = FORKS.Process(target=_main, args=(words, folder, log, environment))
    process.start()
    return process


def become(words, folder, stdout, stderr):
    """Makes this process one that has just been started with a command line."""
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(ENVIRONMENT, TF_CPP_MIN_LOG_LEVEL="3")  # as the program itself sets it
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    sys.argv = ["train.py", *words]


def _main(words, folder, log, environment):
    become(words, folder, Path(log, "1"), Path(log, "2"))
    os.environ.update(environment)

    import train

    with train.one_sentence():
        train.main()
