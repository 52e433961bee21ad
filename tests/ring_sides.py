"""The two sides of a ring at full speed: in a thread, or as a process that can be killed."""

from __future__ import annotations

import base64
import os
import pickle
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from workers.frame import FrameRef
from workers.ring import Arena, Ring

REPORT = struct.Struct("<QQ")  # sequence, whether the frame was torn
TIME_BASE = Fraction(1, 90_000)


def frame(slot: int, sequence: int, lane: int = 0) -> FrameRef:
    return FrameRef(lane, 7, sequence, slot, sequence * 3000, TIME_BASE, sequence / 30)


def shade(sequence: int) -> int:
    """What every byte of the frame holds."""
    return sequence % 251


def put(ring: Ring) -> FrameRef | None:
    """One frame, each byte of it the same; the clock numbers frames over all producers' lives."""
    claim = ring.claim()
    if claim is None:
        return None
    sequence = time.monotonic_ns()
    ring.view(claim.slot)[:] = shade(sequence)
    if sequence % 17 == 0:
        ring.cancel(claim.slot)
        return None
    published = frame(claim.slot, sequence)
    ring.publish(published)
    return published


def get(ring: Ring) -> tuple[int, bool] | None:
    """A frame's sequence, and whether any byte of it was another's, read twice."""
    taken = ring.take() if random.random() < 0.5 else ring.take_newest()[0]
    if taken is None:
        return None
    pixels = ring.view(taken.slot)
    whole = bool((pixels == shade(taken.sequence)).all() and (pixels == pixels[0, 0]).all())
    ring.give_back(taken.slot)
    return taken.sequence, not whole


def produce(ring: Ring, report_fd: int, stop: Callable[[], bool]) -> None:
    while not stop():
        put(ring)


def consume(ring: Ring, report_fd: int, stop: Callable[[], bool]) -> None:
    doorbell = select.poll()
    doorbell.register(ring.ready_fd, select.POLLIN)
    while not stop():
        if doorbell.poll(50) and (got := get(ring)):
            os.write(report_fd, REPORT.pack(*got))


SIDES = {"produce": produce, "consume": consume}


def start(side: str, arena: Arena, report_fd: int) -> subprocess.Popen[bytes]:
    """A side of lane 0's inbox in a process of its own; the consumer reports to a pipe."""
    description = base64.b64encode(pickle.dumps(arena.describe())).decode()
    return subprocess.Popen(
        [sys.executable, __file__, side, description, str(report_fd)],
        pass_fds=(*arena.fds, report_fd),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


def main() -> None:
    side, description, report_fd = sys.argv[1:]
    arena = Arena.attach(pickle.loads(base64.b64decode(description)))
    SIDES[side](arena.inbox(0), int(report_fd), lambda: False)


if __name__ == "__main__":
    main()
