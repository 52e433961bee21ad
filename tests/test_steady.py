"""The time that a sender report tells, as a policy: no clock, no sleep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.steady import EARLY, MOST, WINDOW_S, SteadyTime, TakenTime

HERTZ = 48_000
START_S = 1000.0


def play(taken: TakenTime, lates_s: list[float], first: int = 0) -> list[float]:
    """Packets of 20 ms, each so late; how far each is told to be behind the stream's own time."""
    told = []
    for number, late_s in enumerate(lates_s, first):
        pts = number * HERTZ // 50
        taken.came(pts, START_S + number / 50 + late_s)
        taken_s = taken.taken_s(pts)
        assert taken_s is not None
        told.append(taken_s - START_S - number / 50)
    return told


def test_media_that_come_in_time_were_taken_when_they_came() -> None:
    assert TakenTime(HERTZ).taken_s(0) is None
    assert play(TakenTime(HERTZ), [0.07] * 50) == pytest.approx([0.07] * 50)


def test_who_is_held_up_for_seconds_was_not_taken_later() -> None:
    stalled = [0.0] * 400 + [number / 50 for number in range(150)] + [0.0] * 50
    assert play(TakenTime(HERTZ), stalled) == pytest.approx([0.0] * len(stalled))


def test_a_source_whose_clock_runs_otherwise_is_followed() -> None:
    drifting = [number * 0.02 * 200e-6 for number in range(3000)]  # a minute of 200 ppm
    told = play(TakenTime(HERTZ), drifting)
    assert all(0 <= late - it < WINDOW_S * 200e-6 for late, it in zip(drifting, told, strict=True))


def test_a_clock_that_jumps_is_believed_within_the_window() -> None:
    taken = TakenTime(HERTZ)
    play(taken, [0.5] * 500)
    many = round(WINDOW_S * 50)
    assert play(taken, [0.1] * many, 500)[round(2 * EARLY * many) :] == pytest.approx(
        [0.1] * (many - round(2 * EARLY * many))
    )
    assert play(taken, [0.5] * (many + 1), 500 + many)[-1] == pytest.approx(0.5)


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=100))
def test_what_is_told_lies_between_the_earliest_and_the_latest(lates_s: list[float]) -> None:
    told = play(TakenTime(HERTZ), lates_s)
    assert all(min(lates_s) - 1e-6 <= it <= max(lates_s) + 1e-6 for it in told)


def test_however_much_comes_no_more_than_a_bound_is_kept() -> None:
    taken = TakenTime(HERTZ)
    for _ in range(MOST + 10):
        taken.came(0, START_S)
    assert len(taken._behind) == MOST


def test_a_report_is_corrected_from_when_a_packet_was_sent_to_when_its_media_were_taken() -> None:
    taken = TakenTime(HERTZ)
    time = SteadyTime(taken)
    time.sent(0, START_S)
    assert time.correction_s == 0.0  # a card: it was never taken
    play(taken, [0.0] * 10)
    for late_s in (0.02, 0.13, 1.0):
        time.sent(HERTZ, START_S + 1.0 + late_s)
        assert time.correction_s == pytest.approx(-late_s)
