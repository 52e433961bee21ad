"""What a child prints, and how often it may be started again."""

from __future__ import annotations

from stream.child import LineBudget, RestartBudget


def test_a_second_s_lines_are_told_and_the_rest_is_counted() -> None:
    lines = LineBudget(per_s=3)
    assert [lines.may_tell(10.0 + n / 10) for n in range(5)] == [True] * 3 + [False] * 2
    assert lines.may_tell(11.0)
    assert lines.take_left_out() == 2
    assert lines.take_left_out() == 0


def test_restarts_are_counted_within_a_minute() -> None:
    budget = RestartBudget(limit=2)
    assert budget.spend(0.0) and budget.spend(30.0)
    assert not budget.spend(59.0)
    assert budget.spend(61.0)
