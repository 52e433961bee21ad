"""What the system allows a process: memory that stays in place, memory at all, descriptors."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from stream.doctor.finding import Finding, error, ok, warning
from stream.limits import MOST_VIEWERS, viewers_within
from stream.settings import Settings
from workers.geometry import Geometry
from workers.ring import available_bytes, descriptors_for, slots_bytes
from workers.terms import choose_geometry

CAP_IPC_LOCK = 14  # capabilities(7): memlock is no limit for who has it
UNLIMITED = resource.RLIM_INFINITY


@dataclass(frozen=True, slots=True)
class Limits:
    """Of this process, which the worker inherits."""

    memlock_bytes: int  # RLIM_INFINITY: no limit
    may_lock_all: bool
    available_bytes: int
    descriptors: int  # the hard limit: a server raises its soft one by itself


def look() -> Limits:
    return Limits(
        memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        may_lock_all=_has_capability(CAP_IPC_LOCK),
        available_bytes=available_bytes(),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    )


def judge(settings: Settings, limits: Limits, *, on_cuda: bool) -> list[Finding]:
    # The model may have a geometry of its own, which only the worker gets to know.
    geometry = choose_geometry(settings.geometry, None, on_cuda=on_cuda)
    size = slots_bytes(geometry, settings.max_sessions)
    arena = f"the arena's {_mb(size)} MB ({settings.max_sessions} sessions of {geometry})"
    return [
        _memlock(limits, size, arena, on_cuda=on_cuda),
        _memory(limits, size, geometry, arena),
        _descriptors(limits, settings.max_sessions),
    ]


def _memlock(limits: Limits, size: int, arena: str, *, on_cuda: bool) -> Finding:
    if limits.memlock_bytes == UNLIMITED or limits.may_lock_all:
        return ok("memlock", "not limited")
    said = f"{limits.memlock_bytes / 1e6:.3g} MB"
    if limits.memlock_bytes >= size:
        return ok("memlock", f"{said}, enough for {arena}")
    # No error: NVIDIA's own driver pins pages without asking for this limit, a virtual machine's
    # need not, and where pinning is refused frames pass a small stage instead.
    matters = (
        "where the driver heeds it, frames take a slower way to the GPU"
        if on_cuda
        else "it matters on CUDA only, where the arena is pinned"
    )
    mend = (
        "raise it (ulimit -l unlimited, LimitMEMLOCK=infinity in a unit, "
        "--ulimit memlock=-1 of a container)"
    )
    return warning("memlock", f"{said}, less than {arena}; {matters}", mend)


def _memory(limits: Limits, size: int, geometry: Geometry, arena: str) -> Finding:
    free = f"{limits.available_bytes / 1e9:.1f} GB available"
    if size > limits.available_bytes:
        mend = "lower --max-sessions or --geometry"
        return error("memory", f"{free}, less than {arena}", mend)
    return ok("memory", f"{free}, {arena} among it")


def _descriptors(limits: Limits, max_sessions: int) -> Finding:
    allowed, needed = limits.descriptors, descriptors_for(max_sessions)
    if allowed == UNLIMITED:
        return ok("descriptors", "not limited")
    mend = "raise it (ulimit -Hn, LimitNOFILE in a unit)"
    if allowed < needed:
        said = f"{allowed} allowed, {max_sessions} sessions need {needed}"
        return error("descriptors", said, f"lower --max-sessions, or {mend}")
    viewers = viewers_within(allowed, max_sessions)
    said = f"{allowed} allowed: {max_sessions} sessions and {viewers} viewers"
    if viewers < min(MOST_VIEWERS, 4 * max_sessions):
        return warning("descriptors", said, mend)
    return ok("descriptors", said)


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}"


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
