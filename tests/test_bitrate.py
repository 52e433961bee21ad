"""Who follows whom."""

from hypothesis import given
from hypothesis import strategies as st

from stream.bitrate import FAR, SLOW_S, WELL_S, Plan, Split, rebuild_is_due

FULL = 1_200_000


def after(seconds: float, allowed: dict[str, int], split: Split[str], from_s: float) -> Plan[str]:
    """Planned each half second."""
    plan = split.plan(allowed, from_s)
    for half in range(1, round(2 * seconds) + 1):
        plan = split.plan(allowed, from_s + half / 2)
    return plan


def test_alone_or_nearly_alike_all_follow_one() -> None:
    assert Split[str]().plan({"a": 150_000}, 0.0) == Plan(150_000, None, frozenset())
    plan = after(10, {"a": FULL, "b": 700_000, "c": 900_000}, Split(), 0.0)
    assert plan == Plan(700_000, None, frozenset())


def test_one_far_slower_drags_nobody_down_and_has_its_own_after_two_seconds() -> None:
    split: Split[str] = Split()
    allowed = {"a": FULL, "b": FULL, "slow": 200_000}
    assert after(SLOW_S - 0.5, allowed, split, 0.0) == Plan(FULL, None, frozenset())
    assert split.plan(allowed, SLOW_S) == Plan(FULL, 200_000, frozenset({"slow"}))


def test_a_short_weakness_moves_nobody() -> None:
    split: Split[str] = Split()
    for start_s in range(0, 20, 3):
        after(SLOW_S - 0.5, {"a": FULL, "b": 200_000}, split, float(start_s))
        assert after(0.5, {"a": FULL, "b": FULL}, split, start_s + 2.0).lower is None


def test_who_recovers_returns_after_a_while_and_not_for_a_moment_of_strength() -> None:
    split: Split[str] = Split()
    after(3, {"a": FULL, "b": 200_000}, split, 0.0)
    better = {"a": FULL, "b": 900_000}
    assert after(WELL_S - 1, better, split, 4.0).on_lower == {"b"}
    split.plan({"a": FULL, "b": 300_000}, 8.5)
    assert after(WELL_S - 1, better, split, 9.0).on_lower == {"b"}
    assert after(2, better, split, 9.0 + WELL_S - 1) == Plan(900_000, None, frozenset())


def test_when_the_fast_ones_leave_the_slow_ones_are_the_rest() -> None:
    split: Split[str] = Split()
    after(3, {"a": FULL, "b": 200_000, "c": 250_000}, split, 0.0)
    plan = split.plan({"b": 200_000, "c": 250_000}, 3.5)
    assert plan == Plan(200_000, None, frozenset())


def test_the_fast_few_are_protected_from_the_slow_many() -> None:
    allowed = {"a": FULL} | {f"slow {i}": 150_000 + i for i in range(9)}
    plan = after(3, allowed, Split(), 0.0)
    assert (plan.main, plan.lower, len(plan.on_lower)) == (FULL, 150_000, 9)


steps = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 6), st.integers(1, 3_000_000), min_size=1),
        st.floats(0, 4),
    ),
    min_size=1,
)


@given(steps)
def test_nobody_on_main_who_keeps_up_is_sent_more_than_it_can_take_or_much_less(
    told: list[tuple[dict[int, int], float]],
) -> None:
    split: Split[int] = Split()
    now_s = 0.0
    for allowed, later_s in told:
        now_s += later_s
        plan = split.plan(allowed, now_s)
        on_main = {it: rate for it, rate in allowed.items() if it not in plan.on_lower}
        assert on_main and plan.on_lower <= allowed.keys()
        assert (plan.lower is None) == (not plan.on_lower)
        fastest = max(on_main.values())
        assert FAR * fastest <= plan.main <= fastest
        assert all(plan.main <= rate for rate in on_main.values() if rate >= FAR * fastest)
        if plan.lower is not None:
            assert plan.lower == min(allowed[it] for it in plan.on_lower)


@given(st.dictionaries(st.integers(0, 6), st.integers(1, 3_000_000), min_size=1))
def test_when_nothing_changes_all_end_on_what_they_can_take(allowed: dict[int, int]) -> None:
    split: Split[int] = Split()
    for second in range(20):
        plan = split.plan(allowed, float(second))
    for viewer, rate in allowed.items():
        own = plan.lower if viewer in plan.on_lower else plan.main
        assert own is not None and own <= rate
    assert plan.main >= FAR * max(allowed.values())


def test_an_encoder_is_built_anew_seldom_and_for_a_large_change_alone() -> None:
    assert not rebuild_is_due(1_000_000, 100_000, age_s=3.9)
    assert rebuild_is_due(1_000_000, 100_000, age_s=4.0)
    assert not rebuild_is_due(1_000_000, 800_000, age_s=100)
    assert not rebuild_is_due(1_000_000, 1_400_000, age_s=100)
    assert rebuild_is_due(1_000_000, 1_600_000, age_s=100)
