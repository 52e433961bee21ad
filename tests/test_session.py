"""A session's life: the table, its deadlines, and who may end it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.session import (
    AT_DEADLINE,
    NEXT,
    PATIENCE,
    Event,
    Life,
    Session,
    SessionFacts,
    Source,
    State,
)

WEBRTC = PATIENCE[Source.WEBRTC]


def session(source: Source = Source.WEBRTC) -> Session:
    facts = SessionFacts("aya", "hush", 0, 1, source, "toon", datetime(2026, 1, 1, tzinfo=UTC))
    return Session(facts, Life(PATIENCE[source], 0.0))


def live_life(fps: float = 30, frames: int = 60) -> tuple[Life, float]:
    life = Life(WEBRTC, 0.0)
    for number in range(frames):
        life.advance(Event.FRAME, number / fps)
    return life, (frames - 1) / fps


def test_the_states_have_the_contracts_names() -> None:
    assert [state.value for state in State] == ["joining", "live", "holding", "ended"]


def test_the_table_has_a_row_for_every_state_and_a_way_out_of_every_living_one() -> None:
    assert set(NEXT) == set(State)
    for state in set(State) - {State.ENDED}:
        assert NEXT[state][Event.LEAVE] is State.ENDED
        assert AT_DEADLINE[state] in NEXT[state]
    assert NEXT[State.ENDED] == {}


def test_a_session_that_gives_no_frame_in_time_ends_though_it_may_still_be_connecting() -> None:
    life = Life(WEBRTC, 100.0)
    assert life.due(114.9) is None
    assert life.due(115.0) is Event.EXPIRE
    assert life.advance(Event.EXPIRE, 115.0)
    assert (life.state, life.reason, life.deadline_s) == (State.ENDED, "no_frame", None)


def test_the_first_frame_makes_it_live_and_the_next_change_nothing() -> None:
    life = Life(WEBRTC, 0.0)
    assert life.advance(Event.FRAME, 1.0)
    assert not life.advance(Event.FRAME, 1.033)
    assert (life.state, life.state_since_s, life.reason) == (State.LIVE, 1.0, None)


def test_a_second_of_silence_stalls_an_ordinary_camera() -> None:
    life, last_s = live_life(fps=30)
    assert life.due(last_s + 0.99) is None
    assert life.due(last_s + 1.0) is Event.STALL
    life.advance(Event.STALL, last_s + 1.0)
    assert (life.state, life.reason) == (State.HOLDING, "silent")


def test_a_camera_of_a_frame_each_two_seconds_is_given_three_of_its_intervals() -> None:
    life, last_s = live_life(fps=0.5, frames=4)
    assert life.due(last_s + 5.9) is None
    assert life.due(last_s + 6.1) is Event.STALL


def test_a_held_session_goes_on_with_the_next_frame() -> None:
    life, last_s = live_life()
    life.advance(Event.STALL, last_s + 1.0)
    assert life.advance(Event.FRAME, last_s + 9.0)
    assert (life.state, life.reason) == (State.LIVE, None)
    assert life.due(last_s + 9.99) is None  # the silence has not made it a slow camera
    assert life.due(last_s + 10.01) is Event.STALL


def test_a_held_session_ends_when_patience_is_over() -> None:
    life, last_s = live_life()
    life.advance(Event.STALL, last_s + 1.0)
    assert life.due(last_s + 30.9) is None
    assert life.due(last_s + 31.0) is Event.EXPIRE
    life.advance(Event.EXPIRE, last_s + 31.0)
    assert (life.state, life.reason) == (State.ENDED, "silent")


@pytest.mark.parametrize("interval_s", [1 / 30, 0.5, 2.0, 5.0, 20.0])
def test_a_peer_that_never_comes_back_is_gone_34_s_after_its_last_frame(interval_s: float) -> None:
    life, last_s = live_life(fps=1 / interval_s)
    while life.state is not State.ENDED:
        deadline_s = life.deadline_s
        assert deadline_s is not None and last_s < deadline_s <= last_s + 34.0
        event = life.due(deadline_s)
        assert event is not None
        life.advance(event, deadline_s)
    assert life.reason == "silent"


def test_an_rtsp_camera_is_waited_for_and_held_for_ever() -> None:
    camera = session(Source.RTSP)
    assert not camera.check(1e6)
    camera.saw_frame(1e6)
    assert camera.check(1e6 + 1) and camera.state is State.HOLDING
    assert not camera.check(1e9)


def test_a_pair_without_a_row_raises_and_moves_nothing() -> None:
    life = Life(WEBRTC, 0.0)
    with pytest.raises(ValueError, match="a session that is joining has no stall"):
        life.advance(Event.STALL, 1.0)
    assert (life.state, life.state_since_s) == (State.JOINING, 0.0)


def test_the_reason_of_a_leave_is_the_one_given() -> None:
    performer = session()
    assert performer.end(1.0, "connection_lost")
    assert performer.life.reason == "connection_lost"


def test_a_session_ends_once_and_a_late_frame_does_not_raise_the_dead() -> None:
    performer = session()
    assert performer.end(1.0)
    assert not performer.end(2.0, "again")
    assert not performer.saw_frame(2.0)
    assert not performer.check(1e9)
    assert (performer.state, performer.life.reason) == (State.ENDED, "left")


def test_the_secret_is_in_no_text_of_a_session() -> None:
    performer = session()
    assert "hush" not in repr(performer)
    assert "hush" not in str(performer.facts)


@given(
    st.sampled_from(list(Source)),
    st.lists(st.tuples(st.sampled_from(list(Event)), st.floats(0, 20)), max_size=40),
)
def test_whatever_happens_the_state_moves_by_the_table_alone(
    source: Source, story: list[tuple[Event, float]]
) -> None:
    life, now_s = Life(PATIENCE[source], 0.0), 0.0
    for event, later_s in story:
        now_s += later_s
        before = life.state
        if (due := life.due(now_s)) is not None:
            assert due in NEXT[before]
        if event in NEXT[before]:
            assert life.advance(event, now_s) is (NEXT[before][event] is not before)
            assert life.state is NEXT[before][event]
        else:
            with pytest.raises(ValueError):
                life.advance(event, now_s)
            assert life.state is before
        assert (life.reason is None) is (life.state in (State.JOINING, State.LIVE))


@given(st.lists(st.floats(0, 12), max_size=30))
def test_a_webrtc_session_without_frames_is_over_within_its_patience(gaps_s: list[float]) -> None:
    performer, now_s = session(), 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        performer.saw_frame(now_s)
    for _ in range(3):
        if (deadline_s := performer.life.deadline_s) is not None:
            performer.check(deadline_s)
    assert performer.state is State.ENDED
