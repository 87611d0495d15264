"""Whether something fits into memory, asked before it is made: Linux lets a process take too much, then kills it."""

import math
import os
import re
from pathlib import Path


def check_fits(numbers: float, what: str, advice: str) -> None:
    """Refuses what is larger than the memory that is free.

    Args:
        numbers: of type float32, at least.
        what: needs them.
        advice: what to change.

    Raises:
        ValueError: in the words of the last two.
    """
    needed, free = 4 * numbers, free_bytes()
    if needed > free:
        raise ValueError(
            f"{what} needs {needed / 1e9:,.0f} GB of memory and more, {free / 1e9:,.0f} GB are free: {advice}"
        )


def free_bytes() -> float:
    """What this machine, or the container, has at most for one more program; infinite where nobody says."""
    limit = _number_in("/sys/fs/cgroup/memory.max", r"(\d+)", 1)
    free = _number_in("/proc/meminfo", r"MemAvailable: *(\d+) kB", 1024)
    if math.isinf(free) and "SC_PHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(limit, free)


def _number_in(file: str, pattern: str, unit: int) -> float:
    try:
        found = re.search(pattern, Path(file).read_text())
    except OSError:
        return math.inf
    return int(found[1]) * unit if found else math.inf
