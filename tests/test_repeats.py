"""workers.repeats: what repeats is counted and told once a second."""

from __future__ import annotations

from workers.repeats import Repeats


def test_the_first_is_told_at_once_and_the_rest_once_a_second_with_their_number() -> None:
    repeats = Repeats()
    assert repeats.count(10.0) == 1
    assert [repeats.count(10.0 + at) for at in (0.1, 0.5, 0.99)] == [0, 0, 0]
    assert repeats.count(11.0, 3) == 6
    assert repeats.count(11.5) == 0
    assert repeats.count(99.0) == 2
