"""When a session's lost frames are told."""

from __future__ import annotations

from stream.drops import TELL_EVERY_S, Dropped, DropWatch
from workers.messages import Tally


def test_a_few_overtaken_frames_are_not_worth_a_word() -> None:
    watch = DropWatch()
    assert watch.observe(Tally(arrived=30, late=2, emitted=28), 1.0) is None


def test_a_bad_second_is_told_at_once_with_its_counts() -> None:
    watch = DropWatch()
    watch.observe(Tally(arrived=30, emitted=30), 1.0)
    assert watch.observe(Tally(arrived=60, late=10, overwritten=5), 2.0) == Dropped(15, 30)


def test_what_goes_on_is_counted_and_told_again_only_after_a_while() -> None:
    watch = DropWatch()
    assert watch.observe(Tally(arrived=30, late=15), 1.0) == Dropped(15, 30)
    assert watch.observe(Tally(arrived=60, late=30), 2.0) is None
    later_s = 1.0 + TELL_EVERY_S
    assert watch.observe(Tally(arrived=90, failed=15, late=30), later_s) == Dropped(30, 60)


def test_good_seconds_in_between_do_not_hide_a_bad_one() -> None:
    watch = DropWatch()
    for second in range(1, 60):
        watch.observe(Tally(arrived=30 * second), float(second))
    assert watch.observe(Tally(arrived=1800, late=20), 60.0) == Dropped(20, 30)
