"""How a measurement is told: on what machine, beside whose load, with what spread."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from server import children


def machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cpu}, {cores} cores, {memory_gb:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def spread(values: Sequence[float], digits: int = 1) -> str:
    """median [min–max] n=…"""
    if not values:
        return "nothing n=0"
    shown = [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]
    return f"{shown[0]} [{shown[1]}–{shown[2]}] n={len(values)}"


def ranks(values: Sequence[float], *shares: float) -> tuple[float, ...]:
    """Nearest-rank percentiles; infinite where there is no value."""
    ranked = sorted(values)
    if not ranked:
        return (math.inf,) * len(shares)
    return tuple(ranked[min(int(share * len(ranked)), len(ranked) - 1)] for share in shares)


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time that these processes have taken, with their ended children's."""
    return sum(map(_own_ticks, pids)) / os.sysconf("SC_CLK_TCK")


def thread_cpu_s(pid: int) -> float:
    """User and system time of a process's first thread alone: its event loop's."""
    words = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")


def descriptors_of(pid: int) -> tuple[int, int]:
    """How many a process has open, and how many it may have."""
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    allowed = next(line for line in limits if line.startswith("Max open files")).split()[3]
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), int(allowed)


class ForeignLoad:
    """How much of the machine's CPU time others take: neither this process nor its descendants.

    A hypervisor that takes a core away counts as another; the kernel's interrupts do not.
    """

    def __init__(self) -> None:
        self._since = _ticks()

    def lap(self) -> float:
        """0 to 1 of all cores, since the lap before."""
        before, self._since = self._since, _ticks()
        elapsed, busy, ours = (new - old for new, old in zip(self._since, before, strict=True))
        return max(busy - ours, 0) / max(elapsed, 1)


def _ticks() -> tuple[int, int, int]:
    """All that passed, busy by whomever, busy by us; summed over the cores."""
    ours = sum(map(_own_ticks, (os.getpid(), *children(os.getpid()))))
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, idle, waiting, hard, soft, stolen = map(int, words)
    busy = user + nice + system + stolen
    return busy + idle + waiting + hard + soft, busy, ours


def _own_ticks(pid: int) -> int:
    """Its own time and that of the children it has outlived."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, words[11:15]))
