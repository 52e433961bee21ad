"""Looks at other processes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path


def is_gone(pid: int) -> bool:
    """Ended; a zombie whose new parent is slow to fetch it counts as such."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def until_gone(*pids: int, within_s: float = 2.0) -> None:
    end_s = time.monotonic() + within_s
    while not all(map(is_gone, pids)):
        assert time.monotonic() < end_s, f"still there: {pids}"
        await asyncio.sleep(0.01)


def only_child(pid: int) -> int:
    """Its one child, itself where it has none."""
    kids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(kids[0]) if kids else pid


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
