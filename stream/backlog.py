"""What waits for one MQTT broker, and in which order it goes; every part of it is bounded."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from stream.contract import Event, SessionState, Severity, Status, Value

EVENTS = 1000  # that wait for an absent broker; the contract's number
PASSING = 256  # batches and the like: what a broker that is behind does not get
OVER = 256  # sessions that ended and are yet to be told so
REMEMBERED = 512  # topics whose count of messages goes on


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A value with its place in its topic."""

    value: Value
    seq: int
    at: str


class Backlog:
    """Kept topics hold their newest value only, events wait in order, the rest passes.

    `next` names what goes now, `sent` takes it off: what was under way when a link broke goes
    again, with the same `seq`. Clock-free.
    """

    def __init__(self) -> None:
        self._seqs = OrderedDict[str, int]()
        self._kept: dict[str, Outgoing] = {}
        self._due: dict[str, None] = {}  # kept topics whose newest value has not gone, in order
        self._events = deque[Outgoing]()
        self._passing = deque[Outgoing](maxlen=PASSING)
        self._events_lost = 0
        self._has_been_connected = False
        self.passed_by = 0  # unkept, uncounted messages that gave way

    def put(self, value: Value, at: str) -> None:
        """Takes a value in; something older of its kind may give way."""
        topic = value.topic
        outgoing = Outgoing(value, self._next_seq(topic), at)
        if isinstance(value, Event):
            self._append_event(outgoing)
        elif value.rule.kept or isinstance(value, SessionState):
            self._kept[topic] = outgoing
            self._due.pop(topic, None)
            self._due[topic] = None
            self._bound_the_over()
        else:
            self.passed_by += len(self._passing) == PASSING
            self._passing.append(outgoing)

    def connected(self, away_s: float, at: str) -> None:
        """Every kept topic is due anew, `status` last. An outage is told behind what waited.

        away_s: since the link was lost; before the first connection, since it was sought.
        """
        status = Status.topic
        self._due = dict.fromkeys(topic for topic in self._kept if topic != status)
        if status in self._kept:
            self._due[status] = None
        self._passing.clear()
        if self._has_been_connected or self._events_lost:
            self._tell_gap(away_s, at)
        self._has_been_connected = True

    def next(self) -> Outgoing | None:
        """Kept topics first, since a reader understands an event by them; None: all has gone."""
        if self._due:
            return self._kept[next(iter(self._due))]
        if self._events:
            return self._events[0]
        return self._passing[0] if self._passing else None

    def sent(self, outgoing: Outgoing) -> None:
        """It has gone, and a newer value may have come meanwhile."""
        topic = outgoing.value.topic
        if self._events and self._events[0] is outgoing:
            self._events.popleft()
        elif self._passing and self._passing[0] is outgoing:
            self._passing.popleft()
        elif self._kept.get(topic) is outgoing:
            self._due.pop(topic, None)
            if _is_over(outgoing):
                del self._kept[topic]

    def is_due(self, topic: str) -> bool:
        """Whether a kept topic's newest value has yet to go."""
        return topic in self._due

    def holds(self, topic: str) -> bool:
        """Whether a kept topic is ours, so that nothing else may stand there."""
        return topic in self._kept

    def _tell_gap(self, away_s: float, at: str) -> None:
        lost = self._events_lost + (len(self._events) >= EVENTS)
        gap = Event(
            "telemetry_gap",
            Severity.WARNING,
            f"the broker was away for {away_s:.1f} s, {lost} events were lost",
            data={"outage_s": round(away_s, 1), "events_lost": lost},
        )
        self.put(gap, at)
        self._events_lost = 0

    def _append_event(self, outgoing: Outgoing) -> None:
        if len(self._events) >= EVENTS:
            self._events.popleft()
            self._events_lost += 1
        self._events.append(outgoing)

    def _bound_the_over(self) -> None:
        over = [topic for topic in self._due if _is_over(self._kept[topic])]
        for topic in over[:-OVER]:  # what a broker keeps of them is cleared at the next connection
            del self._kept[topic], self._due[topic]

    def _next_seq(self, topic: str) -> int:
        seq = self._seqs.get(topic, 0)
        self._seqs[topic] = seq + 1
        self._seqs.move_to_end(topic)
        if len(self._seqs) > REMEMBERED:
            self._seqs.popitem(last=False)
        return seq


def _is_over(outgoing: Outgoing) -> bool:
    return isinstance(outgoing.value, SessionState) and outgoing.value.is_over
