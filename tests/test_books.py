"""The books: each fate once, both laws at every instant, nothing falls, over deaths and leases."""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass, field, fields, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stream.books import Books, LaneCounts, LaneRemains, LastingTotals
from workers.messages import Tally

GAUGES = {"waiting", "in_flight"}
COUNTERS = [f.name for f in fields(Tally) if f.name not in GAUGES]


def obeys_both_laws(t: Tally) -> bool:
    return (
        t.arrived == t.overwritten + t.late + t.abandoned + t.waiting + t.batched
        and t.batched == t.in_flight + t.failed + t.emitted
        and min(astuple(t)) >= 0
        and t.unsent <= t.emitted
    )


def fell(before: Tally, after: Tally) -> list[str]:
    return [name for name in COUNTERS if getattr(after, name) < getattr(before, name)]


# ------------------------------------------------------------------ one fact after another


def test_while_a_worker_lives_the_books_say_what_it_says() -> None:
    books = Books()
    tally = Tally(20, 2, 3, 1, 1, 13, 2, 1, 10, 4)
    books.note_counts(0, LaneCounts(published=20, taken_back=2, avatars_taken=6))
    books.note_tallies({0: tally})
    assert books.lane(0) == tally == books.totals()


def test_the_totals_are_the_sum_of_the_lanes() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=3, late=3), 5: Tally(arrived=4, batched=4, emitted=4)})
    assert books.totals() == Tally(arrived=7, late=3, batched=4, emitted=4)


def test_what_the_source_took_back_since_the_report_has_arrived_and_is_overwritten() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=5, overwritten=1, waiting=1, batched=3, emitted=3)})
    books.note_counts(0, LaneCounts(published=9, taken_back=4))
    assert books.lane(0) == Tally(arrived=8, overwritten=4, waiting=1, batched=3, emitted=3)


def test_an_avatar_frame_that_was_taken_since_the_report_was_emitted() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=5, waiting=1, batched=4, in_flight=1, emitted=3)})
    books.note_counts(0, LaneCounts(published=6, avatars_taken=5, avatars_skipped=1))
    assert books.lane(0) == Tally(arrived=5, batched=5, emitted=5, unsent=1)


def test_what_the_worker_took_back_from_the_outbox_was_emitted_beside_what_was_taken() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=9, batched=9, in_flight=1, emitted=8, unsent=3)})
    books.note_counts(0, LaneCounts(published=9, avatars_taken=6))
    assert books.lane(0) == Tally(arrived=9, batched=9, emitted=9, unsent=3)


def test_when_a_worker_dies_what_waited_is_abandoned_and_what_flew_has_failed() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=10, waiting=1, batched=9, in_flight=2, emitted=7)})
    books.note_counts(0, LaneCounts(published=10, avatars_taken=7))
    books.close_worker({})
    assert books.lane(0) == Tally(arrived=10, abandoned=1, batched=9, failed=2, emitted=7)


def test_frames_it_may_have_looked_at_are_abandoned_and_unread_ones_are_the_next_workers() -> None:
    books = Books()
    assert books.next_sequence(0) == 1
    books.note_tallies({0: Tally(arrived=10, batched=10, emitted=10)})
    books.note_counts(0, LaneCounts(published=18, taken_back=2, avatars_taken=10))
    books.close_worker({0: LaneRemains(unread=3)})
    assert books.lane(0) == Tally(arrived=15, overwritten=2, abandoned=3, batched=10, emitted=10)
    assert books.next_sequence(0) == 16


def test_an_avatar_frame_left_in_the_outbox_was_emitted_and_counts_once_when_taken() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=10, batched=10, in_flight=2, emitted=8)})
    books.note_counts(0, LaneCounts(published=10, avatars_taken=7))
    books.close_worker({0: LaneRemains(untaken=2)})
    after_death = books.lane(0)
    assert after_death == Tally(arrived=10, batched=10, failed=1, emitted=9)
    books.note_counts(0, LaneCounts(published=10, avatars_taken=9))
    assert books.lane(0) == after_death


def test_the_next_workers_counts_come_on_top() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=10, batched=10, emitted=10)})
    books.note_counts(0, LaneCounts(published=10))
    books.close_worker({})
    books.note_tallies({0: Tally(arrived=2, waiting=1, batched=1, in_flight=1)})
    assert books.lane(0) == Tally(arrived=12, waiting=1, batched=11, in_flight=1, emitted=10)


def test_a_lane_opened_again_for_the_same_worker_begins_after_what_was_published() -> None:
    books = Books()
    assert books.next_sequence(0) == 1
    books.note_counts(0, LaneCounts(published=40))
    assert books.next_sequence(0) == 41


def test_a_session_counts_from_its_lease_on() -> None:
    books = Books()
    old = Tally(arrived=10, late=1, waiting=1, batched=8, in_flight=1, emitted=7, unsent=2)
    books.note_tallies({0: old})
    books.note_counts(0, LaneCounts(published=10, avatars_taken=5, avatars_skipped=1))
    books.begin_session(0)
    assert books.session(0) == Tally()
    # The worker ends the old lease as it always does, and the new one brings four frames.
    books.note_tallies({0: Tally(14, 0, 2, 1, 0, 11, 1, 1, 9, 2)})
    books.note_counts(0, LaneCounts(published=14, avatars_taken=7, avatars_skipped=1))
    assert books.session(0) == Tally(arrived=4, late=1, batched=3, in_flight=1, emitted=2)


def test_named_totals_outlive_a_worker() -> None:
    totals = LastingTotals()
    totals.note({"batches_full": 7, "filled": 2})
    totals.close_worker()
    totals.note({"batches_full": 1})
    assert (totals["batches_full"], totals["filled"], totals["never"]) == (8, 2, 0)
    totals.close_worker()
    totals.close_worker()
    assert totals["batches_full"] == 8


def test_what_the_forerunner_left_in_the_outbox_is_not_the_new_sessions_unsent() -> None:
    books = Books()
    books.note_tallies({0: Tally(arrived=2, batched=2, emitted=2)})
    books.note_counts(0, LaneCounts(published=2, avatars_taken=1))
    books.begin_session(0)
    books.note_counts(0, LaneCounts(published=2, avatars_taken=2, avatars_skipped=1))
    assert books.lane(0).unsent == 1
    assert books.session(0) == Tally()


# ------------------------------------------------------------------ a model of the whole way

INBOX, OUTBOX = 3, 2


@dataclass(slots=True)
class WorkerLane:
    """What a worker keeps of a lane; its tally obeys the laws at every instant by itself."""

    lease: int
    last_seen: int
    tally: Tally = field(default_factory=Tally)
    waiting: int | None = None
    in_flight: list[int] = field(default_factory=list)  # the leases of frames on the device

    def count(self, **more: int) -> None:
        self.tally = replace(
            self.tally, **{name: getattr(self.tally, name) + n for name, n in more.items()}
        )


@dataclass(slots=True)
class ModelLane:
    """A lane as it truly is: the rings, and what the stream side counts."""

    lease: int = 1
    inbox: deque[tuple[int, int]] = field(default_factory=deque)  # lease, sequence
    outbox: deque[int] = field(default_factory=deque)  # lease
    counts: LaneCounts = field(default_factory=LaneCounts)
    emitted: int = 0
    late: int = 0

    def count(self, **more: int) -> None:
        self.counts = replace(
            self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()}
        )


LANES = 2
lanes = st.integers(0, LANES - 1)


class TheWholeWay(RuleBasedStateMachine):
    """Sources publish, workers work and die, feeds take; the books are read after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.model = {lane: ModelLane() for lane in range(LANES)}
        self.worker: dict[int, WorkerLane] | None = None
        self.reports: deque[dict[int, Tally]] = deque()
        self.read: dict[str, Tally] = {}

    @initialize()
    def first_sessions(self) -> None:
        for lane in self.model:
            self.books.begin_session(lane)
        self.start_worker()

    # The stream side.

    @rule(lane=lanes, frames=st.integers(1, 5))
    def publish(self, lane: int, frames: int) -> None:
        model = self.model[lane]
        for _ in range(frames):
            if len(model.inbox) == INBOX:
                model.inbox.popleft()
                model.count(taken_back=1)
            model.count(published=1)
            model.inbox.append((model.lease, model.counts.published))

    @rule(lane=lanes)
    def take_avatars(self, lane: int) -> None:
        model = self.model[lane]
        taken = len(model.outbox)
        is_shown = taken > 0 and model.outbox[-1] == model.lease
        skipped = taken - is_shown
        model.outbox.clear()
        model.count(avatars_taken=taken, avatars_skipped=skipped)

    @rule(lane=lanes)
    def lease_anew(self, lane: int) -> None:
        model = self.model[lane]
        model.lease += 1
        self.books.note_counts(lane, model.counts)
        self.books.begin_session(lane)
        self.read.pop(f"session {lane}", None)
        if self.worker is not None:
            self.open_lane(lane)

    # The worker.

    def open_lane(self, lane: int) -> None:
        assert self.worker is not None
        model = self.model[lane]
        self.books.note_counts(lane, model.counts)
        next_sequence = self.books.next_sequence(lane)
        if known := self.worker.get(lane):
            if known.waiting is not None:
                known.waiting = None
                known.count(waiting=-1, abandoned=1)
            known.lease = model.lease
        else:
            self.worker[lane] = WorkerLane(model.lease, last_seen=next_sequence - 1)

    @precondition(lambda self: self.worker is None)
    @rule()
    def start_worker(self) -> None:
        self.worker = {}
        for lane in self.model:
            self.open_lane(lane)

    @precondition(lambda self: self.worker is not None)
    @rule(lane=lanes, all_of_it=st.booleans())
    def look(self, lane: int, all_of_it: bool) -> None:
        assert self.worker is not None
        model, known = self.model[lane], self.worker[lane]
        for _ in range(len(model.inbox) if all_of_it else min(1, len(model.inbox))):
            lease, sequence = model.inbox.popleft()
            gap = sequence - known.last_seen - 1
            assert gap >= 0
            known.last_seen = sequence
            known.count(arrived=gap + 1, overwritten=gap)
            if lease != known.lease:
                known.count(abandoned=1)
                continue
            if known.waiting is not None:
                known.count(late=1, waiting=-1)
                model.late += 1
            known.waiting = sequence
            known.count(waiting=1)

    @precondition(lambda self: self.worker is not None)
    @rule(lane=lanes)
    def batch(self, lane: int) -> None:
        assert self.worker is not None
        known = self.worker[lane]
        if known.waiting is not None:
            known.waiting = None
            known.in_flight.append(known.lease)
            known.count(waiting=-1, batched=1, in_flight=1)

    @precondition(lambda self: self.worker is not None)
    @rule(lane=lanes, model_fails=st.booleans())
    def finish(self, lane: int, model_fails: bool) -> None:
        assert self.worker is not None
        model, known = self.model[lane], self.worker[lane]
        if not known.in_flight:
            return
        lease = known.in_flight.pop(0)
        if model_fails or lease != known.lease:
            known.count(in_flight=-1, failed=1)
            return
        if len(model.outbox) == OUTBOX:
            model.outbox.popleft()
            known.count(unsent=1)
        model.outbox.append(lease)
        model.emitted += 1
        known.count(in_flight=-1, emitted=1)

    @precondition(lambda self: self.worker is not None)
    @rule(lane=lanes, frames=st.integers(1, 3))
    def frames_go_through(self, lane: int, frames: int) -> None:
        for _ in range(frames):
            self.publish(lane, 1)
            self.look(lane, all_of_it=True)
            self.batch(lane)
            self.finish(lane, model_fails=False)

    @precondition(lambda self: self.worker is not None)
    @rule()
    def report(self) -> None:
        assert self.worker is not None
        self.reports.append({lane: known.tally for lane, known in self.worker.items()})

    @precondition(lambda self: bool(self.reports))
    @rule()
    def deliver(self) -> None:
        self.books.note_tallies(self.reports.popleft())

    @precondition(lambda self: self.worker is not None)
    @rule()
    def die(self) -> None:
        while self.reports:
            self.deliver()
        self.worker = None
        for lane, model in self.model.items():
            self.books.note_counts(lane, model.counts)
        self.books.close_worker(
            {
                lane: LaneRemains(len(model.inbox), len(model.outbox))
                for lane, model in self.model.items()
            }
        )
        for lane, model in self.model.items():
            at_end = self.books.lane(lane)
            assert at_end.waiting == at_end.in_flight == 0
            assert at_end.arrived == model.counts.published - len(model.inbox)

    @precondition(lambda self: self.worker is not None and not self.reports)
    @rule()
    def after_a_report_the_books_know_all_that_arrived(self) -> None:
        assert self.worker is not None
        self.report()
        self.deliver()
        for lane, known in self.worker.items():
            model = self.model[lane]
            self.books.note_counts(lane, model.counts)
            seen = self.books.lane(lane)
            unread = model.counts.published - known.last_seen
            lost_of_unread = unread - len(model.inbox)
            assert seen.arrived == known.last_seen + lost_of_unread
            assert seen.waiting == known.tally.waiting
            assert seen.in_flight == known.tally.in_flight

    # What must hold whenever somebody reads.

    @invariant()
    def both_laws_hold_and_nothing_falls(self) -> None:
        for lane, model in self.model.items():
            self.books.note_counts(lane, model.counts)
            self._reads(f"lane {lane}", self.books.lane(lane))
            self._reads(f"session {lane}", self.books.session(lane))
        self._reads("totals", self.books.totals())

    @invariant()
    def nothing_is_counted_that_did_not_happen(self) -> None:
        for lane, model in self.model.items():
            told = self.books.lane(lane)
            assert told.arrived <= model.counts.published
            assert told.overwritten == model.counts.taken_back
            assert told.late <= model.late
            assert model.counts.avatars_taken <= told.emitted <= model.emitted

    def _reads(self, what: str, tally: Tally) -> None:
        assert obeys_both_laws(tally), (what, tally)
        assert not fell(self.read.get(what, Tally()), tally), (what, self.read[what], tally)
        self.read[what] = tally


TheWholeWay.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestTheWholeWay = TheWholeWay.TestCase
