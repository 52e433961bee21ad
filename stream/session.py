"""A session's life: a table of states, each with a deadline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from workers.rhythm import Rhythm


class State(Enum):
    """As the telemetry contract names them."""

    JOINING = "joining"  # admitted: it connects, and no frame has come yet
    LIVE = "live"
    HOLDING = "holding"  # its source is silent; viewers keep the last avatar frame
    ENDED = "ended"


class Event(Enum):
    """What may happen to a session."""

    FRAME = "frame"  # its source gave a frame
    STALL = "stall"  # its source has been silent for too long to be called live
    EXPIRE = "expire"  # patience is over
    LEAVE = "leave"  # somebody ended it: the performer, an owner, the server


class Source(Enum):
    """Where a session's frames come from."""

    WEBRTC = "webrtc"
    RTSP = "rtsp"
    FILE = "file"


NEXT: Mapping[State, Mapping[Event, State]] = {
    State.JOINING: {
        Event.FRAME: State.LIVE,
        Event.EXPIRE: State.ENDED,
        Event.LEAVE: State.ENDED,
    },
    State.LIVE: {
        Event.FRAME: State.LIVE,
        Event.STALL: State.HOLDING,
        Event.LEAVE: State.ENDED,
    },
    State.HOLDING: {
        Event.FRAME: State.LIVE,
        Event.EXPIRE: State.ENDED,
        Event.LEAVE: State.ENDED,
    },
    State.ENDED: {},
}

AT_DEADLINE: Mapping[State, Event] = {
    State.JOINING: Event.EXPIRE,
    State.LIVE: Event.STALL,
    State.HOLDING: Event.EXPIRE,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a session may stay without frames; None: for ever."""

    joining_s: float | None  # from admission to its first frame, connecting included
    holding_s: float | None  # from the stall on
    silent_s: float | None  # from the last frame on, however slow the camera was


PATIENCE: Mapping[Source, Patience] = {
    Source.WEBRTC: Patience(joining_s=15.0, holding_s=30.0, silent_s=34.0),
    # A camera named on the command line keeps its place, on or off: it is tried again for ever.
    Source.RTSP: Patience(joining_s=None, holding_s=None, silent_s=None),
    Source.FILE: Patience(joining_s=15.0, holding_s=30.0, silent_s=34.0),
}

STALL_AFTER_S = 1.0
STALL_AFTER_INTERVALS = 3.0  # a camera of a frame each two seconds is no stalled one


class Life:
    """Where a session stands. Times are CLOCK_MONOTONIC seconds."""

    def __init__(self, patience: Patience, now_s: float) -> None:
        self._patience = patience
        self._rhythm = Rhythm()
        self.state = State.JOINING
        self.state_since_s = now_s
        self.reason: str | None = None
        """Why it holds or has ended; None while joining or live."""

    @property
    def is_over(self) -> bool:
        return self.state is State.ENDED

    @property
    def deadline_s(self) -> float | None:
        """When this state ends by itself; None: never."""
        match self.state:
            case State.JOINING:
                return _after(self.state_since_s, self._patience.joining_s)
            case State.LIVE:
                last_s = self._rhythm.last_arrival_s
                assert last_s is not None, "a session is live by a frame"
                return _sooner(last_s + self._silence_s(), self._gone_s())
            case State.HOLDING:
                return _sooner(_after(self.state_since_s, self._patience.holding_s), self._gone_s())
            case State.ENDED:
                return None

    def due(self, now_s: float) -> Event | None:
        """The event that time brings, once the state's deadline has passed."""
        deadline_s = self.deadline_s
        if deadline_s is None or now_s < deadline_s:
            return None
        return AT_DEADLINE[self.state]

    def advance(self, event: Event, now_s: float, reason: str | None = None) -> bool:
        """Move by the table; True when the state changed.

        now_s: for a FRAME its arrival. Raises ValueError for a pair that has no row.
        """
        before = self.state
        if event not in NEXT[before]:
            raise ValueError(f"a session that is {before.value} has no {event.value}")
        if event is Event.FRAME:
            self._rhythm.observe(now_s)
        self.state = NEXT[before][event]
        if self.state is before:
            return False
        self.state_since_s = now_s
        self.reason = _reason(before, event, reason)
        return True

    def _gone_s(self) -> float | None:
        last_s = self._rhythm.last_arrival_s
        return None if last_s is None else _after(last_s, self._patience.silent_s)

    def _silence_s(self) -> float:
        return max(STALL_AFTER_S, STALL_AFTER_INTERVALS * (self._rhythm.interval_s or 0.0))


def _after(since_s: float, patience_s: float | None) -> float | None:
    return None if patience_s is None else since_s + patience_s


def _sooner(one_s: float | None, other_s: float | None) -> float | None:
    return min((it for it in (one_s, other_s) if it is not None), default=None)


def _reason(before: State, event: Event, given: str | None) -> str | None:
    match event:
        case Event.FRAME:
            return None
        case Event.STALL:
            return given or "silent"
        case Event.EXPIRE:
            return given or ("no_frame" if before is State.JOINING else "silent")
        case Event.LEAVE:
            return given or "left"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What of a session never changes."""

    name: str  # public: topics, logs, viewers' links
    secret: str = field(repr=False)  # who knows it may end and change the session
    lane: int
    lease: int
    source: Source
    avatar: str
    since: datetime  # UTC, wall time: to be published, not to be measured with


@dataclass(slots=True, eq=False)
class Session:
    """One source, one avatar, any number of viewers."""

    facts: SessionFacts
    life: Life
    viewers: int = 0

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def lane(self) -> int:
        return self.facts.lane

    @property
    def lease(self) -> int:
        return self.facts.lease

    @property
    def state(self) -> State:
        return self.life.state

    def saw_frame(self, arrival_s: float) -> bool:
        """A frame came; True when that changed the state. One after the end changes nothing."""
        return not self.life.is_over and self.life.advance(Event.FRAME, arrival_s)

    def check(self, now_s: float) -> bool:
        """Do what time brings; True when that changed the state."""
        event = self.life.due(now_s)
        return event is not None and self.life.advance(event, now_s)

    def end(self, now_s: float, reason: str = "left") -> bool:
        """End it; False when it had ended already, for two ways may lead here at once."""
        return not self.life.is_over and self.life.advance(Event.LEAVE, now_s, reason)
