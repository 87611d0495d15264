"""What a program does that is asked to end: without TensorFlow, on this very process."""

import os
import pickle
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from conf.errors import one_sentence
from conf.signals import Interrupted, Signals, at_once, handling


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """A shell's background jobs ignore Ctrl-C, and then so does all that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def in_a_process(*lines):
    """Lines of Python, after which the process should have ended by itself: its outcome."""
    head = "import os, signal; from conf.errors import one_sentence; from conf.signals import *"
    ended = subprocess.run([sys.executable, "-c", "\n".join([head, *lines])], cwd=ROOT, capture_output=True, text=True)
    return ended.returncode, ended.stderr.strip()


@BOTH
def test_a_signal_waits_for_the_next_check(number):
    with Signals().handled() as signals:
        signals.check()
        signal.raise_signal(number)
        with pytest.raises(Interrupted) as caught:
            signals.check()
    assert caught.value.number == number


@BOTH
def test_a_signal_ends_at_once_where_it_may(number):
    with Signals().handled() as signals:
        with pytest.raises(Interrupted), signals.anywhere():
            signal.raise_signal(number)
        with pytest.raises(Interrupted), signals.anywhere():
            pytest.fail("a signal that came before was forgotten")
        signal.raise_signal(signal.SIGTERM)  # waits again


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, lambda number, frame: None])
def test_the_handlers_are_there_only_meanwhile_and_never_where_somebody_has_decided_otherwise(theirs):
    before = signal.signal(signal.SIGTERM, theirs), signal.getsignal(signal.SIGINT)
    try:
        with Signals().handled() as signals:
            assert signal.getsignal(signal.SIGTERM) == theirs
            signal.raise_signal(signal.SIGTERM)
            signals.check()
            assert signal.getsignal(signal.SIGINT) != before[1]
        assert signal.getsignal(signal.SIGINT) == before[1]
    finally:
        signal.signal(signal.SIGTERM, before[0])


def test_other_threads_leave_signals_alone():
    found = []

    def look():
        with Signals().handled():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_a_second_ctrl_c_ends_at_once_and_a_second_sigterm_waits_too():
    wait = "with Signals().handled() as signals:"
    end = "    print('went on', file=__import__('sys').stderr)"
    for first in ("SIGINT", "SIGTERM"):
        twice = [f"    signal.raise_signal(signal.{number})" for number in (first, "SIGINT")]
        assert in_a_process(wait, *twice, end) == (130, "")
        twice[1] = twice[1].replace("SIGINT", "SIGTERM")
        assert in_a_process(wait, *twice, end) == (0, "went on")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("full", [False, True])
def test_a_program_that_is_not_training_ends_at_once_with_one_line(number, status, full, monkeypatch, capsys):
    from conf import errors

    monkeypatch.setattr(errors, "FULL_ERROR", full)
    monkeypatch.setenv("HYDRA_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR", ""))
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, one_sentence():
        signal.raise_signal(number)
    assert caught.value.code == status
    assert capsys.readouterr().err == "\ninterrupted: run the same command again to go on\n"
    assert signal.getsignal(number) == before


def test_the_advice_after_starting_over(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1", "resume=false"])
    with pytest.raises(SystemExit), one_sentence():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\ninterrupted: run the same command again, without resume=false, to go on\n"


def test_an_interruption_comes_back_from_another_process():
    error = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM)))
    assert (type(error), error.number) == (Interrupted, signal.SIGTERM)
    with handling(at_once, signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
