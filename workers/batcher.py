"""When a batch closes: which frames run now, or until when to wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from workers.frame import FrameRef
from workers.rhythm import Rhythm


class Closed(Enum):
    """Which rule closed a batch."""

    FULL = "full"
    EVERYONE = "everyone"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Policy:
    """What does not change while a worker lives."""

    batch_sizes: tuple[int, ...]  # the ladder: the sizes that were warmed up
    max_wait_s: float  # 0 closes at once
    depth: int = 2  # batches the device has buffers for

    @property
    def largest(self) -> int:
        return max(self.batch_sizes)

    def smallest_for(self, frames: int) -> int:
        """The smallest warmed-up size that holds so many frames."""
        return min(size for size in self.batch_sizes if size >= frames)


@dataclass(frozen=True, slots=True)
class LaneFacts:
    """What is known of an open lane that has had a frame."""

    lane: int
    last_arrival_s: float
    interval_s: float | None  # smoothed; None before its second frame
    passed_over: int  # batches closed without this lane while its frame waited
    waiting_since_s: float | None = None  # its first arrival since it was last in a batch

    def is_awaited(self, deadline_s: float, now_s: float) -> bool:
        """Whether its next frame is due before the deadline and not overdue by an interval.

        A lane without an interval is never awaited: nobody knows when it is due, and to guess
        would tax the others for it.
        """
        if self.interval_s is None:
            return False
        return self.last_arrival_s + self.interval_s < deadline_s and now_s < self.overdue_s

    @property
    def overdue_s(self) -> float:
        """From when on nobody waits for it: one interval after it was due."""
        return self.last_arrival_s + 2 * (self.interval_s or 0.0)


@dataclass(frozen=True, slots=True)
class Run:
    """Run these frames now."""

    frames: tuple[FrameRef, ...]  # the real ones, oldest first, at most one a lane
    batch_size: int  # a size that was warmed up
    closed_by: Closed


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to run yet."""

    until_s: float | None  # time alone changes nothing before; None: until something happens


def plan(
    policy: Policy,
    waiting: Sequence[FrameRef],
    lanes: Sequence[LaneFacts],
    in_flight: int,
    now_s: float,
) -> Run | Wait:
    """Run a batch now, or wait.

    `waiting`: the frames the lanes offer; of a lane that offers several (a lossless one) only
    the lowest sequence counts. `lanes`: the open lanes, with a frame here or without.
    `in_flight`: batches submitted and not finished.
    """
    if not waiting or in_flight >= policy.depth:
        return Wait(None)
    first = _first_of_each_lane(waiting)
    facts = {lane.lane: lane for lane in lanes}
    if len(first) >= policy.largest:
        return _close(policy, first, facts, Closed.FULL)
    deadline_s = min(_waiting_since_s(f, facts) for f in first.values()) + policy.max_wait_s
    awaited_until_s = [
        lane.overdue_s
        for lane in lanes
        if lane.lane not in first and lane.is_awaited(deadline_s, now_s)
    ]
    if not awaited_until_s:
        return _close(policy, first, facts, Closed.EVERYONE)
    if now_s >= deadline_s:
        return _close(policy, first, facts, Closed.TIMEOUT)
    return Wait(min(deadline_s, max(awaited_until_s)))


def _first_of_each_lane(waiting: Sequence[FrameRef]) -> dict[int, FrameRef]:
    first: dict[int, FrameRef] = {}
    for frame in waiting:
        known = first.get(frame.lane)
        if known is None or frame.sequence < known.sequence:
            first[frame.lane] = frame
    return first


def _waiting_since_s(frame: FrameRef, facts: Mapping[int, LaneFacts]) -> float:
    # The lane's wait, not the frame's: a source faster than `max_wait` overtakes its own frame
    # again and again, and would push the deadline before it for ever.
    lane = facts.get(frame.lane)
    if lane is None or lane.waiting_since_s is None:
        return frame.arrival_s
    return min(frame.arrival_s, lane.waiting_since_s)


def _close(
    policy: Policy,
    first: Mapping[int, FrameRef],
    facts: Mapping[int, LaneFacts],
    closed_by: Closed,
) -> Run:
    def turn(frame: FrameRef) -> tuple[int, float, int]:
        lane = facts.get(frame.lane)
        return (-lane.passed_over if lane else 0, frame.arrival_s, frame.lane)

    chosen = sorted(first.values(), key=turn)[: policy.largest]
    chosen.sort(key=lambda frame: (frame.arrival_s, frame.lane))
    return Run(tuple(chosen), policy.smallest_for(len(chosen)), closed_by)


class Arrivals:
    """What the open lanes did so far: the facts that `plan` asks for."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}

    def observe(self, lane: int, arrival_s: float) -> None:
        """A frame of the lane was seen; call it for overtaken frames, too, oldest first."""
        seen = self._lanes.setdefault(lane, _Lane())
        seen.rhythm.observe(arrival_s)
        seen.known = None
        if seen.waiting_since_s is None:
            seen.waiting_since_s = arrival_s

    def closed(self, run: Run, waiting: Sequence[FrameRef]) -> None:
        """A batch was closed; `waiting` are the frames that `plan` chose from."""
        served = {frame.lane for frame in run.frames}
        for lane in served | {frame.lane for frame in waiting}:
            seen = self._lanes.setdefault(lane, _Lane())
            seen.known = None
            if lane in served:
                seen.passed_over = 0
                seen.waiting_since_s = None
            else:
                seen.passed_over += 1

    def forget(self, lane: int) -> None:
        """The lane has closed, or begins a new lease; one never seen is no error."""
        self._lanes.pop(lane, None)

    def facts(self) -> tuple[LaneFacts, ...]:
        """One for each lane that has had a frame since it was opened."""
        # Asked for at every wake-up, of which each concerns a lane or two: the others' are kept.
        return tuple(
            seen.facts(lane)
            for lane, seen in self._lanes.items()
            if seen.rhythm.last_arrival_s is not None
        )


class _Lane:
    __slots__ = ("known", "passed_over", "rhythm", "waiting_since_s")

    def __init__(self) -> None:
        self.rhythm = Rhythm()
        self.passed_over = 0
        self.waiting_since_s: float | None = None
        self.known: LaneFacts | None = None  # as told last; None: something has changed since

    def facts(self, lane: int) -> LaneFacts:
        if self.known is None:
            assert self.rhythm.last_arrival_s is not None
            self.known = LaneFacts(
                lane=lane,
                last_arrival_s=self.rhythm.last_arrival_s,
                interval_s=self.rhythm.interval_s,
                passed_over=self.passed_over,
                waiting_since_s=self.waiting_since_s,
            )
        return self.known
