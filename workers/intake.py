"""What waits: takes each lane's frames, offers the newest, and accounts for every other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from workers.frame import FrameRef
from workers.messages import Tally
from workers.ring import Arena


@dataclass(slots=True)
class _Lane:
    lease: int = 0  # the last that was opened
    is_open: bool = False
    last_sequence: int | None = None
    waiting: FrameRef | None = None
    early: list[FrameRef] = field(default_factory=list)  # of a lease that we do not know yet
    arrived: int = 0
    overwritten: int = 0
    late: int = 0
    abandoned: int = 0
    batched: int = 0
    failed: int = 0
    emitted: int = 0
    unsent: int = 0

    def tally(self) -> Tally:
        waiting = (self.waiting is not None) + len(self.early)
        return Tally(
            arrived=self.arrived,
            overwritten=self.overwritten,
            late=self.late,
            abandoned=self.abandoned,
            waiting=waiting,
            batched=self.batched,
            in_flight=self.batched - self.failed - self.emitted,
            failed=self.failed,
            emitted=self.emitted,
            unsent=self.unsent,
        )


class Intake:
    """The worker's end of every lane.

    A frame's way: it waits; then it is batched, or given back as late (a newer one of its lane is
    there) or abandoned (its lease ended). What is batched is emitted or fails. Each step is
    counted where it happens, so the two laws of `Tally` hold after every call.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._lanes = [_Lane() for _ in range(arena.lanes)]

    def open(self, lane: int, lease: int, next_sequence: int) -> None:
        """A new tenant. What its lease sent ahead of this word now waits."""
        it = self._lanes[lane]
        self._leave(lane)
        it.lease, it.is_open = lease, True
        if it.last_sequence is None:
            it.last_sequence = next_sequence - 1
        early, it.early = it.early, []
        for frame in early:
            self._settle(lane, frame)

    def close(self, lane: int, lease: int) -> Tally:
        """The tenant leaves; frames of it that still wait are abandoned. Returns the last count."""
        it = self._lanes[lane]
        if it.lease == lease:
            self.collect(lane)
            self._leave(lane)
            it.is_open = False
        return it.tally()

    def lease(self, lane: int) -> int | None:
        it = self._lanes[lane]
        return it.lease if it.is_open else None

    def collect(self, lane: int) -> tuple[float, ...]:
        """Takes all that is ready; the newest frame now waits. Gives the arrivals, oldest first.

        A frame of a lease that is not open yet is kept aside: `has_early` says so.
        """
        it = self._lanes[lane]
        ring = self._arena.inbox(lane)
        arrivals: list[float] = []
        while (frame := ring.take()) is not None:
            last = it.last_sequence if it.last_sequence is not None else frame.sequence - 1
            it.arrived += frame.sequence - last
            it.overwritten += frame.sequence - last - 1
            it.last_sequence = frame.sequence
            if frame.lease > it.lease:
                it.early.append(frame)
            elif self._settle(lane, frame):
                arrivals.append(frame.arrival_s)
        return tuple(arrivals)

    def has_early(self) -> bool:
        return any(it.early for it in self._lanes)

    def abandon_early(self) -> int:
        """Gives back what came under a lease that nobody opened; how many these were."""
        given = 0
        for lane, it in enumerate(self._lanes):
            for frame in it.early:
                self._arena.inbox(lane).give_back(frame.slot)
            given += len(it.early)
            it.abandoned += len(it.early)
            it.early = []
        return given

    def waiting(self) -> Iterator[FrameRef]:
        return (it.waiting for it in self._lanes if it.waiting is not None)

    def batch(self, frames: Iterable[FrameRef]) -> None:
        """These frames go to the device now; their slots stay claimed until they are done."""
        for frame in frames:
            it = self._lanes[frame.lane]
            assert it.waiting == frame, "only what waits can be batched"
            it.waiting = None
            it.batched += 1

    def emitted(self, frame: FrameRef) -> None:
        self._done(frame).emitted += 1

    def failed(self, frame: FrameRef) -> None:
        self._done(frame).failed += 1

    def unsent(self, lane: int) -> None:
        """An avatar frame was taken back from the outbox for a newer one."""
        self._lanes[lane].unsent += 1

    def tallies_of(self, frames: Iterable[FrameRef]) -> dict[int, Tally]:
        """Of the lanes that these frames are from."""
        return {frame.lane: self._lanes[frame.lane].tally() for frame in frames}

    def tallies(self) -> dict[int, Tally]:
        return {lane: it.tally() for lane, it in enumerate(self._lanes) if it.arrived or it.lease}

    def leases(self) -> dict[int, int]:
        return {lane: it.lease for lane, it in enumerate(self._lanes) if it.is_open}

    def _settle(self, lane: int, frame: FrameRef) -> bool:
        """The frame waits, if it is the present tenant's; else it is abandoned."""
        it = self._lanes[lane]
        if not it.is_open or frame.lease != it.lease:
            it.abandoned += 1
            self._arena.inbox(lane).give_back(frame.slot)
            return False
        if it.waiting is not None:
            it.late += 1
            self._arena.inbox(lane).give_back(it.waiting.slot)
        it.waiting = frame
        return True

    def _leave(self, lane: int) -> None:
        it = self._lanes[lane]
        if it.waiting is not None:
            it.abandoned += 1
            self._arena.inbox(lane).give_back(it.waiting.slot)
            it.waiting = None

    def _done(self, frame: FrameRef) -> _Lane:
        self._arena.inbox(frame.lane).give_back(frame.slot)
        return self._lanes[frame.lane]
