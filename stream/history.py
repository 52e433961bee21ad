"""What a worker's reports add up to: totals over all its lives, trends of five minutes."""

from __future__ import annotations

import os
from collections import deque
from functools import cache

from stream.books import LastingTotals
from stream.contract import OverviewWorker, Spreads, WorkerMemory, WorkerSummary
from workers.messages import Report, Tally

TREND_S = 300.0
TREND_SAMPLES = 300
TREND_FROM_S = 30.0  # a line through less than this says nothing


class Slope:
    """The least-squares slope of a number over the last five minutes, in fixed memory."""

    def __init__(self) -> None:
        self._samples = deque[tuple[float, float]](maxlen=TREND_SAMPLES)

    def observe(self, now_s: float, value: float | None) -> None:
        while self._samples and self._samples[0][0] < now_s - TREND_S:
            self._samples.popleft()
        if value is not None:
            self._samples.append((now_s, value))

    def per_min(self) -> float | None:
        """None while the samples span less than 30 s."""
        if not self._samples or self._samples[-1][0] - self._samples[0][0] < TREND_FROM_S:
            return None
        n = len(self._samples)
        mean_t = sum(t for t, _ in self._samples) / n
        mean_v = sum(v for _, v in self._samples) / n
        spread = sum((t - mean_t) ** 2 for t, _ in self._samples)
        return 60.0 * sum((t - mean_t) * (v - mean_v) for t, v in self._samples) / spread

    def forget(self) -> None:
        self._samples.clear()


class WorkerHistory:
    """One worker's, by index. Call `started` before each life's first report."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._starts = 0
        self._totals = LastingTotals()
        self._reserved, self._rss, self._age = Slope(), Slope(), Slope()
        self._last: tuple[WorkerMemory, WorkerSummary] | None = None
        self._told_filled = self._told_batched = 0

    def started(self) -> None:
        """A new process serves: its counts begin at 0, its memory is another."""
        self._starts += 1
        self._totals.close_worker()
        for slope in (self._reserved, self._rss, self._age):
            slope.forget()

    def observe(
        self, report: Report, frames: Tally, *, sessions: int, batch_size: int, now_s: float
    ) -> tuple[WorkerMemory, WorkerSummary]:
        """Both of the second's messages."""
        self._last = (
            self._memory(report, now_s),
            self._summary(report, frames, sessions, batch_size, now_s),
        )
        return self._last

    def overview(self, *, is_ready: bool) -> OverviewWorker:
        """As of the last report; the fill's share since the last overview."""
        if self._last is None:
            return OverviewWorker(is_ready, None, None, None, 0, None)
        memory, summary = self._last
        frames = summary.frames
        filled = summary.frames_filled_total - self._told_filled
        rows = filled + frames.batched - self._told_batched
        self._told_filled, self._told_batched = summary.frames_filled_total, frames.batched
        return OverviewWorker(
            ready=is_ready,
            reserved_bytes=memory.memory.reserved_bytes,
            new_device_allocations_total=memory.new_device_allocations_total,
            fill_ratio=round(min(max(filled / rows, 0.0), 1.0), 4) if rows > 0 else None,
            frames_dropped_total=frames.overwritten
            + frames.late
            + frames.abandoned
            + frames.failed,
            age_ms_p95=summary.spreads.age_ms.p95,
        )

    def _memory(self, report: Report, now_s: float) -> WorkerMemory:
        memory = report.memory
        self._reserved.observe(now_s, memory.reserved_bytes)
        self._rss.observe(now_s, memory.rss_bytes)
        return WorkerMemory(
            worker=self._worker,
            window_s=report.window_s,
            memory=memory,
            node_rss_bytes=own_rss_bytes(),
            new_device_allocations_total=self._total("new", memory.new_device_allocations),
            alloc_retries_total=self._total("retries", memory.alloc_retries),
            out_of_memory_total=self._total("oom", memory.out_of_memory),
            reserved_slope_bytes_per_min=self._reserved.per_min(),
            rss_slope_bytes_per_min=self._rss.per_min(),
        )

    def _summary(
        self, report: Report, frames: Tally, sessions: int, batch_size: int, now_s: float
    ) -> WorkerSummary:
        self._age.observe(now_s, report.age_ms.p50)
        self._totals.note(
            {"recompilations": report.recompilations, "filled": report.filled, **report.batches}
        )
        return WorkerSummary(
            worker=self._worker,
            window_s=report.window_s,
            starts_total=self._starts,
            sessions=sessions,
            batch_size=batch_size,
            shapes=report.shapes,
            recompilations_total=self._totals["recompilations"],
            batches_full_total=self._totals["full"],
            batches_everyone_total=self._totals["everyone"],
            batches_timeout_total=self._totals["timeout"],
            frames=frames,
            frames_filled_total=self._totals["filled"],
            busy_ratio=report.busy_ratio,
            age_slope_ms_per_min=self._age.per_min(),
            spreads=Spreads(
                age_ms=report.age_ms,
                wait_ms=report.wait_ms,
                copy_in_ms=report.copy_in_ms,
                compute_ms=report.compute_ms,
                copy_out_ms=report.copy_out_ms,
            ),
        )

    def _total(self, name: str, count: int | None) -> int | None:
        """None for a count that this worker does not have."""
        if count is None:
            return None
        self._totals.note({name: count})
        return self._totals[name]


@cache
def _statm() -> int:
    # Opened once, for as long as the process lives: a report must not fail for want of one more.
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def own_rss_bytes() -> int:
    """This process's resident memory."""
    return int(os.pread(_statm(), 128, 0).split()[1]) * os.sysconf("SC_PAGESIZE")
