"""A worker by itself: the real process over a real arena, and nobody's network."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from time import monotonic
from typing import TypeVar

import numpy as np

from stream.brief_child import BriefChild, brief_child
from stream.supervisor import environment_for
from workers.channel import Channel
from workers.errors import ModelError, WorkerLost
from workers.frame import FrameRef
from workers.messages import (
    BatchDone,
    Beat,
    CaptureLost,
    Descriptor,
    Loaded,
    OpenLane,
    Ready,
    Refused,
    WorkerSpec,
)
from workers.ring import Arena

FIRST_BEAT_S = 60.0
LEASE = 1
TIME_BASE = Fraction(1, 1000)

M = TypeVar("M")


@dataclass(slots=True)
class LoneWorker:
    """A ready worker, every lane open, noise in every inbox slot. For one thread."""

    channel: Channel
    arena: Arena
    ready: Ready
    child: BriefChild
    sequences: list[int]

    def publish(self, lane: int) -> bool:
        """A frame as a camera's, stamped now; whether an older one gave way for it."""
        inbox = self.arena.inbox(lane)
        now_s = monotonic()
        claim = inbox.claim()
        self.sequences[lane] += 1
        if claim is None:  # the worker holds every slot; the number is used up
            return True
        pts = int(now_s * 1000)
        inbox.publish(
            FrameRef(lane, LEASE, self.sequences[lane], claim.slot, pts, TIME_BASE, now_s)
        )
        return claim.taken_back is not None

    def take(self, lane: int) -> FrameRef | None:
        """An avatar, whose slot is given back at once; None: there is none."""
        outbox = self.arena.outbox(lane)
        frame = outbox.take()
        if frame is not None:
            outbox.give_back(frame.slot)
        return frame

    def hear(self) -> Iterator[object]:
        """What it has said. Raises WorkerLost when it is gone."""
        try:
            while (received := self.channel.receive()) is not None:
                yield received[0]
        except EOFError:
            raise self.child.lost() from None


@contextmanager
def lone_worker(spec: WorkerSpec, beat: Callable[[str], None]) -> Iterator[LoneWorker]:
    """Until it is ready; killed at the end. `spec.max_sessions` lanes are open.

    beat: told what it is doing. Raises ModelError for what a user can mend, WorkerLost for a
    worker that ends or falls silent.
    """
    ours, theirs = Channel.pair()
    with ours:
        words = ["--socket", str(theirs.fileno())]
        try:
            starting = brief_child(
                "workers.worker", words, [theirs.fileno()], environment_for(spec)
            )
            child = starting.__enter__()
        finally:
            theirs.close()
        try:
            ours.send(spec, timeout_s=5.0)
            loaded = _until(ours, child, Loaded, beat)
            with Arena.create(loaded.geometry, spec.max_sessions) as arena:
                for index, fd in enumerate(arena.fds):
                    ours.send(Descriptor(index), fd, timeout_s=5.0)
                _make_noise(arena)
                ours.send(arena.describe(), timeout_s=5.0)
                ready = _until(ours, child, Ready, beat)
                for lane in range(arena.lanes):
                    ours.send(OpenLane(lane, LEASE, 1), timeout_s=5.0)
                yield LoneWorker(ours, arena, ready, child, [0] * arena.lanes)
        finally:
            starting.__exit__(None, None, None)


def _until(channel: Channel, child: BriefChild, kind: type[M], beat: Callable[[str], None]) -> M:
    bell, within_s = select.poll(), FIRST_BEAT_S
    bell.register(channel.fileno(), select.POLLIN)
    try:
        while bell.poll(within_s * 1e3):
            while (received := channel.receive()) is not None:
                match received[0]:
                    case Beat(phase, deadline_s):
                        within_s = deadline_s
                        beat(phase.value)
                    case Refused(reason) | CaptureLost(reason):
                        raise ModelError(reason)
                    case message if isinstance(message, kind):
                        return message
    except EOFError:
        raise child.lost() from None
    raise WorkerLost(f"the worker was silent for {within_s:.0f} s before it was ready")


def _make_noise(arena: Arena) -> None:
    random = np.random.default_rng(0)
    shape = (arena.geometry.rows, arena.geometry.width)
    for lane in range(arena.lanes):
        picture = random.integers(16, 236, shape, dtype=np.uint8)
        for slot in range(arena.inbox(lane).slots):
            arena.inbox(lane).view(slot)[:] = picture


__all__ = ["BatchDone", "LoneWorker", "lone_worker"]
