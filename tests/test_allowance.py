"""What a viewer's network carries, by its reports."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.allowance import LEAST_BIT_RATE, Allowance, SentRate

MOST = 1_200_000


def allowance(*reports: tuple[float, int, float]) -> Allowance:
    """After these estimates: when, which, beside what was sent."""
    it = Allowance(MOST)
    for now_s, estimate, sent in reports:
        it.estimate(estimate, sent, now_s)
    return it


def test_a_first_estimate_below_what_is_sent_is_obeyed_at_once() -> None:
    assert allowance((3.0, 199_000, 1_100_000)).bit_rate == 199_000


def test_an_estimate_that_falls_below_what_is_sent_is_obeyed_at_once() -> None:
    assert allowance((3, 900_000, 300_000), (4, 400_000, 700_000)).bit_rate == 400_000


def test_an_estimate_that_stays_below_what_is_sent_is_obeyed_in_the_end() -> None:
    reports = [(float(s), 300_000, 90_000.0 if s < 20 else 800_000.0) for s in range(25)]
    assert allowance(*reports).bit_rate == 300_000


def test_an_estimate_that_only_lags_behind_a_picture_that_began_to_move_lowers_nothing() -> None:
    still = [(float(s), 150_000, 90_000.0) for s in range(20)]
    moving = [(20.0 + s, int(150_000 * 1.08**s), 1_100_000.0) for s in range(24)]
    assert allowance(*still, *moving).bit_rate == MOST


def test_a_still_picture_whose_estimate_is_low_keeps_its_allowance() -> None:
    assert allowance((3, 60_000, 60_000), (4, 61_000, 60_000)).bit_rate == MOST


def test_it_rises_with_the_estimate_while_all_that_is_allowed_is_sent() -> None:
    it = allowance((3, 200_000, 1_100_000), (5, 230_000, 195_000))
    assert it.bit_rate == 230_000


def test_it_comes_back_in_half_a_minute_when_little_is_sent_and_nothing_is_missing() -> None:
    it = allowance((3, 200_000, 1_100_000))
    for second in range(4, 40):
        it.estimate(210_000, 100_000, second)
    assert it.bit_rate == MOST


def test_without_estimates_losses_tell() -> None:
    it = Allowance(MOST)
    it.loss(0.05, MOST, 1.0)
    assert it.bit_rate == MOST
    it.loss(0.2, MOST, 2.0)
    assert it.bit_rate == pytest.approx(0.9 * MOST)
    it.loss(0.8, it.bit_rate, 3.0)
    assert it.bit_rate == pytest.approx(0.18 * MOST, rel=0.01)
    for second in range(4, 30):
        it.loss(0.0, it.bit_rate, second)
    assert it.bit_rate == MOST


def test_a_loss_of_what_nobody_has_counted_tells_nothing() -> None:
    it = Allowance(MOST)
    it.loss(0.9, 0.0, 1.0)
    assert it.bit_rate == MOST


reports = st.lists(
    st.tuples(
        st.booleans(),
        st.floats(0, 1),
        st.integers(0, 5_000_000),
        st.integers(0, 5_000_000),
        st.floats(0, 30),
    )
)


@given(reports, st.integers(1, 6_000_000))
def test_whatever_is_reported_it_stays_within_its_bounds(
    told: list[tuple[bool, float, int, int, float]], most: int
) -> None:
    it, now_s = Allowance(most), 0.0
    for is_estimate, fraction, bit_rate, sent, later_s in told:
        now_s += later_s
        if is_estimate:
            it.estimate(bit_rate, sent, now_s)
        else:
            it.loss(fraction, sent, now_s)
        assert min(LEAST_BIT_RATE, most) <= it.bit_rate <= most


def test_the_rate_sent_is_the_lesser_of_the_last_two_seconds() -> None:
    sent = SentRate()
    for second, size in ((10, 1000), (11, 90_000), (12, 500)):
        sent.add(size, second + 0.5)
    assert sent.bit_rate(12.9) == 8 * 1000
    assert sent.bit_rate(13.0) == 8 * 500
    assert sent.bit_rate(99.0) == 0
