"""Admission: lanes, leases, names and secrets."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import registry as registry_module
from stream.registry import Registry, made_up_name
from stream.session import Session, Source, State
from workers.errors import NameRefused, NameTaken, ServerFull

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def admit(registry: Registry, name: str | None = None) -> Session:
    return registry.admit(name, Source.WEBRTC, "toon", now_s=5.0, since=SINCE)


def test_an_admitted_session_is_joining_on_a_lane_and_lease_of_its_own() -> None:
    registry = Registry(2)
    first, second = admit(registry, "aya"), admit(registry)
    assert (first.name, first.lane, first.lease, first.state) == ("aya", 0, 1, State.JOINING)
    assert (second.lane, second.lease) == (1, 1)
    assert first.life.deadline_s == 20.0
    assert (len(registry), registry.free_lanes) == (2, 0)


def test_it_is_found_by_its_name_and_by_its_secret_and_by_nothing_else() -> None:
    registry = Registry(2)
    aya = admit(registry, "aya")
    assert registry.by_name("aya") is aya
    assert registry.by_secret(aya.facts.secret) is aya
    assert registry.by_secret("aya") is None
    assert registry.by_name(aya.facts.secret) is None


def test_when_every_lane_is_taken_the_server_is_full_until_one_leaves() -> None:
    registry = Registry(2)
    aya = admit(registry, "aya")
    admit(registry)
    with pytest.raises(ServerFull, match=r"all 2 lanes are taken.*--max-sessions"):
        admit(registry)
    registry.release(aya)
    assert admit(registry).lane == aya.lane


def test_a_taken_name_is_refused_also_when_the_server_is_full_and_free_again_later() -> None:
    registry = Registry(1)
    aya = admit(registry, "aya")
    with pytest.raises(NameTaken, match="aya"):
        admit(registry, "aya")
    registry.release(aya)
    assert registry.by_name("aya") is None
    assert registry.by_secret(aya.facts.secret) is None
    assert admit(registry, "aya").lease == 2


@pytest.mark.parametrize("name", ["", "Aya", "a b", "a/b", "+", "é", "a" * 65, "aya\n", "a_b"])
def test_a_name_that_no_topic_can_carry_is_refused_and_takes_no_lane(name: str) -> None:
    registry = Registry(1)
    with pytest.raises(NameRefused):
        admit(registry, name)
    assert registry.free_lanes == 1


@pytest.mark.parametrize("name", ["a", "-", "0", "front-door-2", "a" * 64])
def test_every_name_of_the_contract_is_taken(name: str) -> None:
    assert admit(Registry(1), name).name == name


def test_made_up_names_are_short_fit_the_contract_and_differ() -> None:
    names = [made_up_name() for _ in range(2000)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]{6}-[a-z]{6}", name) for name in names)


def test_a_made_up_name_never_takes_a_living_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["kamori-tesuna", "kamori-tesuna", "hanero-biyuto"])
    monkeypatch.setattr(registry_module, "made_up_name", lambda: next(names))
    registry = Registry(2)
    assert [admit(registry).name, admit(registry).name] == ["kamori-tesuna", "hanero-biyuto"]


def test_secrets_have_at_least_128_bits_and_differ() -> None:
    registry = Registry(100)
    secrets = {admit(registry).facts.secret for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", secret) for secret in secrets)


def test_the_lane_that_rested_longest_is_leased_next() -> None:
    registry = Registry(3)
    first, second = admit(registry), admit(registry)
    registry.release(second)
    registry.release(first)
    assert [admit(registry).lane for _ in range(3)] == [2, second.lane, first.lane]


def test_a_second_release_gives_nothing_free_twice() -> None:
    registry = Registry(1)
    first = admit(registry, "aya")
    registry.release(first)
    second = admit(registry, "aya")
    registry.release(first)
    assert registry.by_name("aya") is second
    assert registry.free_lanes == 0


def test_a_lanes_sequence_goes_on_over_its_leases() -> None:
    registry = Registry(1)
    for lease in (1, 2):
        session = admit(registry)
        numbers = registry.numbers(session.lane)
        assert session.lease == lease == numbers.last_lease
        taken = [numbers.take_sequence() for _ in range(3)]
        assert taken == [3 * lease - 2, 3 * lease - 1, 3 * lease]
        registry.release(session)
    assert registry.numbers(0).last_sequence == 6


def test_sessions_may_end_while_they_are_gone_through() -> None:
    registry = Registry(3)
    admitted = [admit(registry) for _ in range(3)]
    gone_through = []
    for session in registry:
        gone_through.append(session)
        registry.release(session)
    assert gone_through == admitted
    assert len(registry) == 0


@given(st.integers(1, 4), st.lists(st.integers(0, 5), max_size=60))
def test_no_two_sessions_ever_share_a_lane_and_no_lease_comes_twice(
    max_sessions: int, story: list[int]
) -> None:
    registry, here, leases = Registry(max_sessions), list[Session](), set[tuple[int, int]]()
    for choice in story:
        if choice < len(here):
            registry.release(here.pop(choice))
        elif registry.free_lanes:
            session = admit(registry)
            assert (session.lane, session.lease) not in leases
            leases.add((session.lane, session.lease))
            here.append(session)
        assert len({session.lane for session in registry}) == len(here) == len(registry)
        assert registry.free_lanes == max_sessions - len(here)
