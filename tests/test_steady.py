"""The time that a sender report tells, as a policy: no clock, no sleep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.steady import SMOOTH_S, SteadyTime

HERTZ = 48_000


def play(time: SteadyTime, lates_s: list[float], from_s: float = 0.0) -> list[float]:
    """Packets of 20 ms, each so late; the corrections after each."""
    found = []
    for number, late_s in enumerate(lates_s):
        at_s = from_s + number * 0.02
        time.sent(round(at_s * HERTZ), 1000.0 + at_s + late_s)
        found.append(time.correction_s)
    return found


def test_packets_in_time_need_no_correction_and_none_have_none() -> None:
    assert SteadyTime(HERTZ).correction_s == 0.0
    assert play(SteadyTime(HERTZ), [0.07] * 50) == pytest.approx([0.0] * 50)


def test_one_late_packet_is_taken_back_nearly_whole_and_leaves_hardly_a_trace() -> None:
    corrections = play(SteadyTime(HERTZ), [0.0] * 200 + [0.09, 0.0])
    assert corrections[-2] == pytest.approx(-0.09, abs=0.002)
    assert corrections[-1] == pytest.approx(0.0, abs=0.002)


def test_a_lasting_change_is_followed() -> None:
    changed = round(5 * SMOOTH_S / 0.02)
    corrections = play(SteadyTime(HERTZ), [0.0] * 200 + [0.1] * changed)
    assert corrections[-1] == pytest.approx(0.0, abs=0.001)


def test_a_clock_that_jumps_is_believed_at_once() -> None:
    time = SteadyTime(HERTZ)
    play(time, [0.0] * 200)
    time.sent(77, 2000.0)
    assert time.correction_s == 0.0


@given(st.lists(st.floats(0.0, 0.4), min_size=1, max_size=100))
def test_what_is_told_lies_between_the_earliest_and_the_latest(lates_s: list[float]) -> None:
    time = SteadyTime(HERTZ)
    for late_s, correction_s in zip(lates_s, play(time, lates_s), strict=True):
        assert min(lates_s) - 1e-4 <= late_s + correction_s <= max(lates_s) + 1e-4
