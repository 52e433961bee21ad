"""A second of the worker's work, summed up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.messages import BatchDone, MemoryReport, Report, Spread
from workers.reporter import EngineCounts, Reporter, spread


def done(compute_ms: float, closed_by: str = "full") -> BatchDone:
    return BatchDone(1, 4, 3, closed_by, 8.0, 1.0, compute_ms, 1.0, *[None] * 6)


def told(reporter: Reporter, now_s: float) -> Report:
    return reporter.report(now_s, {}, {}, EngineCounts(1, 0, 0), MemoryReport(rss_bytes=1))


def test_nothing_measured_is_null_and_not_zero() -> None:
    assert spread([]) == Spread(0, None, None, None, None)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_percentiles_are_values_that_were_measured_in_order(values: list[float]) -> None:
    found = spread(values)
    rounded = {round(value, 3) for value in values}
    assert found.count == len(values)
    assert {found.p50, found.p95, found.p99, found.max} <= rounded
    assert found.p50 is not None and found.p95 is not None and found.p99 is not None
    assert found.p50 <= found.p95 <= found.p99 <= found.max == round(max(values), 3)


def test_a_window_begins_empty_and_the_counts_go_on() -> None:
    reporter = Reporter(0.0)
    reporter.batch(done(50.0, "timeout"))
    reporter.age(0.040)
    first, second = told(reporter, 1.0), told(reporter, 2.0)
    assert first.compute_ms.count == first.age_ms.count == 1
    assert first.age_ms.max == 40.0
    assert second.compute_ms.count == second.age_ms.count == 0
    assert first.batches == second.batches == {"full": 0, "everyone": 0, "timeout": 1}


def test_busy_is_the_share_of_the_window_that_batches_took() -> None:
    reporter = Reporter(0.0)
    for _ in range(5):
        reporter.batch(done(98.0))
    assert told(reporter, 1.0).busy_ratio == pytest.approx(0.5)
    assert told(reporter, 2.0).busy_ratio == 0.0


def test_the_step_is_the_median_of_the_last_batches() -> None:
    reporter = Reporter(0.0, step_ms=5000.0)
    assert reporter.step_s() == 5.0  # the warm-up's
    for compute_ms in (8.0, 8.0, 998.0):
        reporter.batch(done(compute_ms))
    assert reporter.step_s() == pytest.approx(0.010)
