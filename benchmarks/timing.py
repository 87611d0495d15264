"""Seconds of several things taken in turns, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Seconds = dict[str, list[float]]


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> Seconds:
    """The seconds of each call in each round.

    Args:
        calls: by name; the order changes from round to round.
        rounds: that count.
        warm_up: rounds before them.
    """
    seconds: Seconds = {name: [] for name in calls}
    names = list(calls)
    for number in range(warm_up + rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            calls[name]()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Seconds, one: str, other: str) -> float:
    """How many times as long as the other one takes: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats get three digits."""

    def text(cell: object) -> str:
        return f"{cell:,.3g}" if isinstance(cell, float) else str(cell)

    lines = [list(head), ["---"] * len(head), *([text(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def verdict(value: float, goal: float, at_most: bool = False) -> str:
    """A ratio beside its goal."""
    reached = value <= goal if at_most else value >= goal
    return f"{value:.3g} (goal {'at most' if at_most else 'at least'} {goal:g}: {'reached' if reached else 'missed'})"
