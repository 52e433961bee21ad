"""stream/gpu_condition.py: what is told of a GPU, and which of its errors end a worker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream.gpu_condition import AGAIN_S, CALM_S, GROWN_BYTES, Condition, judge_loss, judge_xid
from stream.nvml import Reading
from tests.wire import schema
from workers.messages import Happened

CALM = Reading(1 << 30, 1 << 28, 1, 60, (), 0, 0)
SLOW = replace(CALM, temperature_c=91, slowdowns=("power brake",))


def test_what_is_told_is_an_event_of_the_contract() -> None:
    known = set(schema("event")["properties"]["event_type"]["enum"])
    assert {
        "gpu_fault",
        "gpu_throttled",
        "gpu_recovered",
        "gpu_memory_error",
        "memory_grew",
    } <= known


def kinds(told: list[Happened]) -> list[tuple[str, str]]:
    return [(it.event_type, it.severity) for it in told]


@pytest.mark.parametrize(
    ("xid", "processes", "is_fatal"),
    [
        (79, 3, True),  # off the bus: nobody computes on it
        (31, 1, True),  # a page fault, and the worker is alone
        (31, None, True),  # or may be
        (31, 2, False),  # of one of two: the worker finds out whether it was its own
        (45, 1, False),  # follows the end of a process, such as a worker that we restarted
        (63, 1, False),
        (9999, 1, False),
    ],
)
def test_an_error_is_fatal_where_the_worker_cannot_have_survived_it(
    xid: int, processes: int | None, is_fatal: bool
) -> None:
    verdict = judge_xid(xid, processes)
    assert (verdict.fatal is not None) is is_fatal
    assert verdict.told.event_type == "gpu_fault"
    assert verdict.told.severity == ("error" if is_fatal else "warning")
    assert verdict.told.data["xid"] == xid and verdict.told.data["fatal"] is is_fatal
    assert f"Xid {xid} " in verdict.told.message


def test_a_lost_gpu_is_fatal() -> None:
    assert judge_loss("GPU is lost").fatal == "the GPU is lost (GPU is lost)"


def test_a_calm_gpu_is_not_spoken_of() -> None:
    condition = Condition()
    assert [condition.observe(CALM, now_s) for now_s in range(100)] == [[]] * 100


def test_a_slowdown_is_told_when_it_begins_and_when_it_has_been_over_for_a_while() -> None:
    condition = Condition()
    assert kinds(condition.observe(SLOW, 0)) == [("gpu_throttled", "warning")]
    assert condition.observe(CALM, 5) == []  # it flickers
    assert condition.observe(SLOW, 10) == []
    assert condition.observe(CALM, 10 + CALM_S - 1) == []
    assert kinds(condition.observe(CALM, 10 + CALM_S)) == [("gpu_recovered", "info")]
    assert kinds(condition.observe(SLOW, 60)) == [("gpu_throttled", "warning")]


def test_memory_that_torch_does_not_count_is_told_each_time_it_grows() -> None:
    condition = Condition()
    base, step = 1 << 28, GROWN_BYTES + 1
    sizes = [base, base + GROWN_BYTES, base + step, base + step, base, base + 2 * step]
    told = [condition.observe(replace(CALM, process_bytes=it), 0.0) for it in sizes]
    assert [bool(it) for it in told] == [False, False, True, False, False, True]
    (last,) = told[-1]
    assert (last.event_type, last.severity) == ("memory_grew", "error")
    assert last.data["baseline_device_process_bytes"] == base
    assert last.data["device_process_bytes"] == base + 2 * step


def test_uncorrected_memory_errors_are_told_at_once_with_how_many_are_new() -> None:
    condition = Condition()
    condition.observe(replace(CALM, ecc_uncorrected=4), 0)  # from before our time
    (told,) = condition.observe(replace(CALM, ecc_uncorrected=6), 5)
    assert (told.event_type, told.severity) == ("gpu_memory_error", "error")
    assert told.data == {"uncorrected": 2, "uncorrected_total": 6}


def test_corrected_memory_errors_are_summed_up_over_a_minute() -> None:
    condition = Condition()
    told = []
    for count in range(25):
        told += condition.observe(replace(CALM, ecc_corrected=count), count * 5.0)
    assert kinds(told) == [("gpu_memory_error", "warning")] * 2
    assert [it.data["corrected"] for it in told] == [1, AGAIN_S / 5]


def test_a_gpu_that_tells_nothing_gives_nothing_to_tell() -> None:
    condition = Condition()
    assert condition.observe(Reading(), 0) == condition.observe(Reading(), 5) == []
