"""A second of the worker's work, summed up: spreads, rates and counts for a `Report`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workers.messages import BatchDone, MemoryReport, Report, Spread, Tally

RECENT_BATCHES = 64


def spread(values: Sequence[float]) -> Spread:
    """Nearest-rank percentiles; all None but the count where there is no value."""
    if not values:
        return Spread(0, None, None, None, None)
    ranked = sorted(values)

    def rank(share: float) -> float:
        return round(ranked[min(len(ranked) - 1, int(share * len(ranked)))], 3)

    return Spread(len(ranked), rank(0.50), rank(0.95), rank(0.99), round(ranked[-1], 3))


class EngineCounts(NamedTuple):
    shapes: int
    recompilations: int
    filled: int


class Reporter:
    """Collects batches and ages; `report` empties the window and keeps the cumulative counts.

    A window holds at most what the device ran in it, so it is bounded by the batches of a second.
    """

    def __init__(self, now_s: float, step_ms: float = 0.0) -> None:
        """step_ms: a batch's time as the warm-up found it, until live ones are known."""
        self._since_s = now_s
        self._batches: list[BatchDone] = []
        self._ages_ms: list[float] = []
        self._busy_s = 0.0
        self._closed = {"full": 0, "everyone": 0, "timeout": 0}
        self._warm_step_ms = step_ms
        self._steps_ms: deque[float] = deque(maxlen=RECENT_BATCHES)

    def batch(self, done: BatchDone) -> None:
        self._batches.append(done)
        self._closed[done.closed_by] += 1
        step_ms = done.copy_in_ms + done.compute_ms + done.copy_out_ms
        self._steps_ms.append(step_ms)
        self._busy_s += step_ms / 1e3

    def age(self, age_s: float) -> None:
        """A frame was emitted at this age."""
        self._ages_ms.append(age_s * 1e3)

    def step_s(self) -> float:
        """The median of a batch's time on the device, of the last few."""
        if not self._steps_ms:
            return self._warm_step_ms / 1e3
        return sorted(self._steps_ms)[len(self._steps_ms) // 2] / 1e3

    def report(
        self,
        now_s: float,
        tallies: Mapping[int, Tally],
        leases: Mapping[int, int],
        engine: EngineCounts,
        memory: MemoryReport,
    ) -> Report:
        window_s = max(now_s - self._since_s, 1e-3)
        batches, self._batches = self._batches, []
        ages, self._ages_ms = self._ages_ms, []
        busy_s, self._busy_s = self._busy_s, 0.0
        self._since_s = now_s
        return Report(
            window_s=round(window_s, 3),
            tallies=dict(tallies),
            leases=dict(leases),
            batches=dict(self._closed),
            shapes=engine.shapes,
            recompilations=engine.recompilations,
            filled=engine.filled,
            busy_ratio=round(min(busy_s / window_s, 1.0), 4),
            age_ms=spread(ages),
            wait_ms=spread([b.wait_ms for b in batches]),
            copy_in_ms=spread([b.copy_in_ms for b in batches]),
            compute_ms=spread([b.compute_ms for b in batches]),
            copy_out_ms=spread([b.copy_out_ms for b in batches]),
            memory=memory,
        )
