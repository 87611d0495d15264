"""Ctrl-C and SIGTERM: what a program does that is asked to end."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end; like Ctrl-C's own exception, it passes those who catch errors.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def at_once(number: int, frame: FrameType | None) -> None:
    """The handler that Python has for SIGINT, for SIGTERM too.

    Raises:
        Interrupted: always.
    """
    raise Interrupted(number)


REPLACEABLE = (signal.SIG_DFL, signal.default_int_handler, at_once)


@contextmanager
def handling(handler: Handler, *numbers: int) -> Iterator[None]:
    """Has a handler called at these signals, in the main thread, as Python demands.

    Not at those that are ignored, as a shell's background jobs ignore Ctrl-C, or that somebody else takes care of, as
    submitit does in Slurm's jobs.
    """
    ours = numbers if threading.current_thread() is threading.main_thread() else ()
    free = [number for number in ours if signal.getsignal(number) in REPLACEABLE]
    previous = {number: signal.signal(number, handler) for number in free}
    try:
        yield
    finally:
        for number, theirs in previous.items():
            signal.signal(number, theirs)


class Signals:
    """For what must not end just anywhere: SIGINT and SIGTERM wait for the next `check`; a second Ctrl-C does not."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.waiting = True

    @contextmanager
    def handled(self) -> Iterator["Signals"]:
        """Takes care of the signals."""
        with handling(self._receive, signal.SIGINT, signal.SIGTERM):
            yield self

    def check(self) -> None:
        """Here it may end.

        Raises:
            Interrupted: a signal came.
        """
        if self.received is not None:
            raise Interrupted(self.received)

    @contextmanager
    def anywhere(self) -> Iterator[None]:
        """Within, it may end anywhere.

        Raises:
            Interrupted: a signal came, or comes.
        """
        self.waiting = False
        try:
            self.check()
            yield
        finally:
            self.waiting = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self.received = self.received or number
        if not self.waiting:
            self.check()
