"""The sound's delay, as a policy: no clock, no sleep."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.lipsync import FIRST_AGES, MAX_DELAY_S, SLEW, Delay


def begun(age_s: float, at_s: float = 0.0) -> Delay:
    delay = Delay()
    for number in range(FIRST_AGES):
        delay.saw(age_s, at_s - (FIRST_AGES - number) * 0.03)
    assert delay.at(at_s) == pytest.approx(min(max(age_s, 0.0), MAX_DELAY_S))
    return delay


def test_nothing_is_delayed_before_a_few_ages_are_known() -> None:
    delay = Delay()
    for number in range(FIRST_AGES - 1):
        delay.saw(0.3, number * 0.03)
        assert delay.at(number * 0.03) == 0.0


def test_it_begins_at_the_median_so_that_a_slow_first_frame_is_no_measure() -> None:
    delay = Delay()
    for number, age_s in enumerate((0.9, 0.02, 0.021, 0.019, 0.02)):
        delay.saw(age_s, number * 0.03)
    assert delay.at(0.2) == pytest.approx(0.02)


def test_it_follows_a_new_age_slowly_and_then_stays() -> None:
    delay = begun(0.02)
    seen = []
    for tick in range(1, 601):
        delay.saw(0.12, tick / 30)
        seen.append(delay.at(tick / 30))
    assert seen == sorted(seen)
    assert seen[29] <= 0.02 + SLEW + 1e-9  # a second
    assert seen[-1] == pytest.approx(0.12, abs=0.001)


def test_the_jitter_of_single_frames_hardly_moves_it() -> None:
    delay = begun(0.1)
    seen = []
    for tick in range(1, 301):
        delay.saw(0.1 + (0.017 if tick % 2 else -0.017), tick / 30)
        seen.append(delay.at(tick / 30))
    assert max(seen) - min(seen) < 0.002


@given(
    st.lists(
        st.tuples(st.floats(0.001, 0.5), st.floats(-1.0, 100.0)), min_size=FIRST_AGES, max_size=80
    )
)
def test_it_never_moves_faster_than_its_slew_nor_out_of_its_bounds(
    ages: list[tuple[float, float]],
) -> None:
    delay, now_s, seen = Delay(), 0.0, []
    for number, (gap_s, age_s) in enumerate(ages):
        now_s += gap_s
        delay.saw(age_s, now_s)
        if number >= FIRST_AGES - 1:
            seen.append((now_s, delay.at(now_s)))
    assert all(0.0 <= it <= MAX_DELAY_S for _, it in seen)
    for (before_s, before), (after_s, after) in pairwise(seen):
        assert abs(after - before) <= SLEW * (after_s - before_s) + 1e-9
