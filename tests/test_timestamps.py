"""The viewer's clock, against every clock a source may have."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stream.timestamps import WireClock

RTP = Fraction(1, 90_000)
MS = Fraction(1, 1000)


def test_the_sources_own_spacing_is_kept() -> None:
    clock = WireClock()
    wires = [clock.frame(1_000_000 + i * 3000, RTP, now_s=i / 30) for i in range(5)]
    assert wires == [0, 3000, 6000, 9000, 12000]


def test_jitter_in_the_time_of_arrival_does_not_reach_the_wire() -> None:
    clock = WireClock()
    arrivals = (0.0, 0.09, 0.1, 0.101, 0.2)
    wires = [clock.frame(i * 3000, RTP, now_s) for i, now_s in enumerate(arrivals)]
    assert wires == [0, 3000, 6000, 9000, 12000]


def test_other_time_bases_become_90_khz() -> None:
    clock = WireClock()
    assert [clock.frame(i * 40, MS, i * 0.04) for i in range(3)] == [0, 3600, 7200]


def test_a_held_frame_advances_by_wall_time() -> None:
    clock = WireClock()
    clock.frame(0, RTP, now_s=10.0)
    assert clock.hold(11.0) == 90_000
    assert clock.hold(12.0) == 180_000


def test_a_source_that_was_silent_but_kept_its_clock_goes_on_by_it() -> None:
    clock = WireClock()
    clock.frame(0, RTP, now_s=0.0)
    clock.hold(1.0)
    clock.hold(2.0)
    assert clock.frame(int(2.5 * 90_000), RTP, now_s=2.5) == 225_000


def test_a_source_whose_clock_stood_still_goes_on_by_wall_time() -> None:
    clock = WireClock()
    clock.frame(0, RTP, now_s=0.0)
    clock.hold(0.5)
    resumed = clock.frame(3000, RTP, now_s=0.6)
    assert resumed == 54_000
    assert clock.frame(6000, RTP, now_s=0.6 + 1 / 30) == resumed + 3000


def test_a_jump_of_an_hour_either_way_is_not_shown() -> None:
    for jump in (3600 * 90_000, -3600 * 90_000):
        clock = WireClock()
        clock.frame(0, RTP, now_s=0.0)
        jumped = clock.frame(jump, RTP, now_s=0.1)
        assert jumped == 9000
        assert clock.frame(jump + 3000, RTP, now_s=0.13) == 12_000


def test_a_new_unit_of_the_source_goes_on_by_wall_time() -> None:
    clock = WireClock()
    clock.frame(0, RTP, now_s=0.0)
    assert clock.frame(77, MS, now_s=0.1) == 9000
    assert clock.frame(177, MS, now_s=0.2) == 18_000


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**40), 2**40)),
            st.floats(0, 5),
            st.sampled_from([RTP, MS, Fraction(1, 30)]),
        ),
        max_size=40,
    )
)
def test_the_wire_always_rises(steps: list[tuple[int | None, float, Fraction]]) -> None:
    clock, now_s, wires = WireClock(), 0.0, []
    for pts, passed_s, time_base in steps:
        now_s += passed_s
        wires.append(clock.hold(now_s) if pts is None else clock.frame(pts, time_base, now_s))
    assert all(a < b for a, b in pairwise(wires))


@given(st.lists(st.floats(0.001, 0.9), min_size=1, max_size=200))
def test_holds_stay_with_wall_time(passed: list[float]) -> None:
    clock, now_s = WireClock(), 0.0
    clock.frame(0, RTP, now_s)
    for passed_s in passed:
        now_s += passed_s
        wire = clock.hold(now_s)
    assert abs(wire - now_s * 90_000) <= len(passed) + 1
