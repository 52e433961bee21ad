"""Looks at other processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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


async def until(holds: Callable[[], object], within_s: float = 10.0, what: str = "it") -> None:
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, f"{what} did not come about within {within_s} s"
        await asyncio.sleep(0.01)


def only_child(pid: int) -> int:
    """Its one child, itself where it has none."""
    kids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(kids[0]) if kids else pid


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def marked(mark: str) -> dict[int, str]:
    """Every living process whose environment holds the text, and its command: a server's
    children inherit what it was started with, whoever their parent is by now."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return {pid: command.decode() for pid, command in found.items() if not is_gone(pid)}


def shared_memory(pid: int) -> set[int]:
    """The memfds that a process has open or mapped, by inode."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(fd.readlink()).startswith("/memfd:"):
                inodes.add(fd.stat().st_ino)
        except FileNotFoundError:
            continue
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "/memfd:" in line:
            inodes.add(int(line.split()[4]))
    return inodes


def holders(inodes: set[int]) -> dict[int, str]:
    """Who has one of these memfds, of all processes that we may look at."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and shared_memory(int(entry.name)) & inodes:
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found
