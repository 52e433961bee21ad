"""stream/backlog.py: what waits for a broker."""

from __future__ import annotations

from stream.backlog import EVENTS, PASSING, Backlog, Outgoing
from stream.contract import Event, Phase, Status
from stream.session import State
from tests import samples

AT = "2026-11-24T12:00:00.000Z"


def put(backlog: Backlog, *values: object) -> None:
    for value in values:
        backlog.put(value, AT)  # type: ignore[arg-type]  # they are values


def drain(backlog: Backlog) -> list[Outgoing]:
    gone = []
    while (outgoing := backlog.next()) is not None:
        backlog.sent(outgoing)
        gone.append(outgoing)
    return gone


def topics(gone: list[Outgoing]) -> list[str]:
    return [it.value.topic for it in gone]


def test_a_kept_topic_goes_once_with_its_newest_value() -> None:
    backlog = Backlog()
    put(backlog, *[samples.session("aya", State.LIVE, viewers) for viewers in range(5)])
    (only,) = drain(backlog)
    assert only.value.viewers == 4  # type: ignore[attr-defined]  # a session's
    assert only.seq == 4  # the gap tells a reader that four were left out


def test_a_connection_sends_the_kept_topics_anew_and_status_last() -> None:
    backlog = Backlog()
    backlog.connected(0.0, AT)
    put(backlog, Status(1, Phase.SERVING), samples.INFO, samples.session("aya", State.LIVE))
    drain(backlog)
    put(backlog, Status(2, Phase.SERVING))
    backlog.connected(1.0, AT)
    assert topics(drain(backlog)) == ["info", "session/aya", "status", "event"]


def test_the_last_thousand_events_wait_in_order_and_the_gap_is_told_behind_them() -> None:
    backlog = Backlog()
    backlog.connected(0.0, AT)
    put(backlog, *[samples.event(number) for number in range(EVENTS + 50)])
    backlog.connected(33.21, AT)
    gone = drain(backlog)
    assert len(gone) == EVENTS
    seqs = [it.seq for it in gone]
    assert seqs == list(range(51, 51 + EVENTS))
    gap = gone[-1].value
    assert isinstance(gap, Event) and gap.event_type == "telemetry_gap"
    assert gap.data == {"outage_s": 33.2, "events_lost": 51}


def test_the_first_connection_has_no_gap_to_tell() -> None:
    backlog = Backlog()
    put(backlog, samples.event())
    backlog.connected(2.0, AT)
    assert [it.value for it in drain(backlog)] == [samples.event()]


def test_what_was_under_way_when_the_link_broke_goes_again_with_the_same_seq() -> None:
    backlog = Backlog()
    put(backlog, samples.event(0), samples.event(1))
    under_way = backlog.next()
    backlog.connected(1.0, AT)
    assert drain(backlog)[0] is under_way


def test_a_newer_value_that_came_meanwhile_still_goes() -> None:
    backlog = Backlog()
    put(backlog, samples.INFO)
    under_way = backlog.next()
    assert under_way is not None
    put(backlog, samples.INFO)
    backlog.sent(under_way)
    assert [it.seq for it in drain(backlog)] == [1]


def test_a_session_that_is_over_is_held_no_longer() -> None:
    backlog = Backlog()
    put(backlog, samples.session("aya", State.LIVE))
    drain(backlog)
    assert backlog.holds("session/aya")
    put(backlog, samples.session("aya", State.ENDED))
    assert topics(drain(backlog)) == ["session/aya"]
    assert not backlog.holds("session/aya")


def test_batches_that_a_broker_is_too_slow_for_give_way_and_are_counted() -> None:
    backlog = Backlog()
    put(backlog, *[samples.BATCH] * (PASSING + 7))
    assert backlog.passed_by == 7
    assert len(drain(backlog)) == PASSING


def test_a_broker_away_for_days_costs_no_memory() -> None:
    backlog = Backlog()
    for number in range(6000):
        put(backlog, samples.session(f"s{number}", State.LIVE), samples.event(number))
        put(backlog, samples.session(f"s{number}", State.ENDED), samples.BATCH)
    held = len(backlog._kept) + len(backlog._events) + len(backlog._seqs) + len(backlog._passing)
    assert held < 6000
