"""Who has a port: what the kernel's tables and the processes' descriptors tell us."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

LISTENING = "0A"  # TCP_LISTEN in proc(5)'s tables


def owner_of(kind: Literal["tcp", "udp"], port: int) -> str | None:
    """Who listens on it, as `mosquitto (process 812)`; None: nobody whom we may look at."""
    inodes = {f"socket:[{it}]" for it in _inodes(kind, port)}
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            return f"{_name(process)} (process {process.name})"
    return None


def _inodes(kind: Literal["tcp", "udp"], port: int) -> Iterator[str]:
    for table in (kind, f"{kind}6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:  # no IPv6
            continue
        for line in lines:
            words = line.split()
            is_listening = kind == "udp" or words[3] == LISTENING
            if is_listening and words[1].endswith(f":{port:04X}"):
                yield words[9]


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(str(fd.readlink()) in inodes for fd in _opened(process))
    except OSError:  # somebody else's, or just gone
        return False


def _opened(process: Path) -> Iterator[Path]:
    yield from (process / "fd").iterdir()


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "somebody"
