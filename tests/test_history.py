"""stream/history.py: totals that outlive a worker, and slopes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream.history import Slope, WorkerHistory, own_rss_bytes
from tests import samples
from workers.messages import Report


def observe(history: WorkerHistory, report: Report, now_s: float = 0.0, batched: int = 20) -> None:
    frames = replace(samples.FRAMES, batched=batched)
    history.observe(report, frames, sessions=1, batch_size=4, now_s=now_s)


def test_a_slope_is_the_line_through_the_last_five_minutes() -> None:
    slope = Slope()
    for second in range(1000):
        slope.observe(second, 7.0 if second < 600 else 7.0 + 3.0 * (second - 600))
    assert slope.per_min() == pytest.approx(180.0)


def test_a_slope_of_less_than_half_a_minute_says_nothing() -> None:
    slope = Slope()
    assert slope.per_min() is None
    for second in range(30):
        slope.observe(second, 5.0)
    assert slope.per_min() is None
    slope.observe(30, 5.0)
    assert slope.per_min() == 0.0


def test_a_slope_forgets_samples_that_are_too_old_even_when_no_new_ones_come() -> None:
    slope = Slope()
    for second in range(60):
        slope.observe(second, second)
    slope.observe(1000, None)
    assert slope.per_min() is None


def test_totals_go_on_when_a_new_worker_counts_from_zero() -> None:
    history = WorkerHistory(0)
    history.started()
    observe(history, samples.report(samples.GPU, full=5, filled=3))
    history.started()
    memory, summary = history.observe(
        samples.report(samples.GPU, full=1, filled=1),
        samples.FRAMES, sessions=2, batch_size=4, now_s=1.0,
    )  # fmt: skip
    assert summary.starts_total == 2
    assert summary.batches_full_total == 6 and summary.frames_filled_total == 4
    assert memory.new_device_allocations_total == 4 and memory.out_of_memory_total == 2


def test_a_new_workers_memory_has_a_trend_of_its_own() -> None:
    history = WorkerHistory(0)
    history.started()
    for second in range(60):
        grown = replace(samples.CPU, rss_bytes=1000 + second)
        observe(history, samples.report(grown), float(second))
    memory, _ = history.observe(
        samples.report(replace(samples.CPU, rss_bytes=1060)),
        samples.FRAMES, sessions=0, batch_size=1, now_s=60.0,
    )  # fmt: skip
    assert memory.rss_slope_bytes_per_min == pytest.approx(60.0)
    history.started()
    memory, _ = history.observe(
        samples.report(), samples.FRAMES, sessions=0, batch_size=1, now_s=61.0
    )
    assert memory.rss_slope_bytes_per_min is None


def test_the_overview_tells_the_fills_share_since_the_last_one() -> None:
    history = WorkerHistory(0)
    assert history.overview(is_ready=False).fill_ratio is None
    history.started()
    observe(history, samples.report(filled=10), batched=10)
    assert history.overview(is_ready=True).fill_ratio == 0.5
    observe(history, samples.report(filled=10), batched=30)
    overview = history.overview(is_ready=True)
    assert overview.fill_ratio == 0.0 and overview.frames_dropped_total == 7


def test_this_process_has_a_size() -> None:
    assert 5_000_000 < own_rss_bytes() < 20_000_000_000
