"""Training processes that are killed: at a line of our code, in the middle of writing a checkpoint, or at any time."""

import os
import sys
import time
from collections import Counter
from typing import NamedTuple

from processes import FORKS, ROOT, become

OURS = tuple(str(ROOT / name) for name in ("train.py", "conf", "data", "models", "rounding", "telemetry"))


class Fault(NamedTuple):
    """A signal and its moment: the so manieth time that a line is reached, or a checkpoint half written, or seconds."""

    number: int
    line: tuple[str, int] | None = None
    write: bool = False
    count: int = 1
    seconds: float | None = None


def train(words, log, fault=None, traced=False):
    """`python train.py <words>`, with a fault; returns exit status, lines executed by `train.fit`, and its seconds.

    The lines are there only if asked for: to trace them takes half as long again.
    """
    lines, ours = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_train, args=(words, log, fault, traced, ours))
    process.start()
    ours.close()
    told = []
    try:
        told.append(lines.recv())
        if fault is not None and fault.seconds is not None:
            process.join(fault.seconds)
            if process.is_alive():
                os.kill(process.pid, fault.number)
        told.append(lines.recv())
    except EOFError:
        pass  # it is dead
    process.join()
    return process.exitcode, *(told[1] if len(told) == 2 else (None, None))


def _train(words, log, fault, traced, pipe):
    become(words, os.getcwd(), log, log)

    import train
    from conf.errors import one_sentence
    from models import training
    from telemetry import checkpoint

    if traced or (fault is not None and fault.seconds is None):
        training.SECONDS_A_CALL = 0.0  # a step a call and a checkpoint an epoch, so that all comes as often in each run
        checkpoint.SECONDS_BETWEEN_SAVES = 0.0
    real, seen = train.fit, Counter()

    def fit(*args):
        pipe.send("begins")
        began = time.perf_counter()
        if traced or (fault is not None and fault.line):
            sys.settrace(_tracer(seen, fault))
        if fault is not None and fault.write:
            _die_while_writing(fault)
        try:
            return real(*args)
        finally:
            sys.settrace(None)
            pipe.send((seen, time.perf_counter() - began))

    train.fit = fit
    with one_sentence():
        train.main()


def _tracer(seen, fault):
    files = OURS if fault is None else fault.line[0]

    def begin(frame, event, arg):
        return look if frame.f_code.co_filename.startswith(files) else None

    def look(frame, event, arg):
        if event == "line":
            line = frame.f_code.co_filename, frame.f_lineno
            seen[line] += 1
            if fault is not None and (line, seen[line]) == (fault.line, fault.count):
                os.kill(os.getpid(), fault.number)
        return look

    return begin


def _die_while_writing(fault):
    import numpy as np

    real, calls = np.savez, Counter()

    def savez(file, **arrays):
        real(file, **arrays)
        calls["all"] += 1
        if calls["all"] == fault.count:
            file.flush()
            os.truncate(file.fileno(), file.tell() // 2)
            os.kill(os.getpid(), fault.number)

    np.savez = savez
