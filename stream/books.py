"""Every frame accounted for: the counts of a worker's lanes, over its deaths and restarts.

Two sides know different things. The worker knows what became of the frames it looked at, and says
so once a second, until it dies. The stream side knows, exactly and at any time, what it published,
what it took back, and what it took out of the outbox. The books take of each what only that side
knows, so that in every `Tally` they give

    arrived = overwritten + late + abandoned + waiting + batched
    batched = in_flight + failed + emitted

and nothing but `waiting` and `in_flight` ever falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

from workers.messages import Tally


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """What the stream side counted on a lane since it began, over all leases and workers."""

    published: int = 0  # the last sequence put into the inbox
    taken_back: int = 0  # of these, those the source took back, the inbox being full
    avatars_taken: int = 0  # taken out of the outbox, to be shown or skipped
    avatars_skipped: int = 0  # of these, those a newer one or a new lease made useless


@dataclass(frozen=True, slots=True)
class LaneRemains:
    """What lies in a lane's rings once its worker is dead and the slots are reclaimed."""

    unread: int = 0  # frames ready in the inbox: the next worker's
    untaken: int = 0  # avatar frames ready in the outbox: still to be taken


class Books:
    """The accounts of one worker index: of its lanes, over all processes that served them.

    In the order of what happens: `note_counts` before every reading and whenever it suits,
    `note_tallies` with each report, `begin_session` when a lane gets a new lease,
    `next_sequence` for each `OpenLane` that is sent, `close_worker` when a process has ended.
    """

    def __init__(self) -> None:
        self._accounts: dict[int, _Account] = {}

    def note_counts(self, lane: int, counts: LaneCounts) -> None:
        """What the stream side counted on this lane up to now."""
        self._account(lane).counts = counts

    def note_tallies(self, tallies: Mapping[int, Tally]) -> None:
        """The present worker's report: its tallies by lane, since it began."""
        for lane, tally in tallies.items():
            self._account(lane).tally = tally

    def begin_session(self, lane: int) -> None:
        """A new lease begins; `note_counts` first. The lane's counts so far are its forerunner's.

        What the forerunner left unfinished is foreseen to end as abandoned, failed or unsent.
        Where frames of its last second end otherwise, the new session's fates are off by those
        few; its laws hold all the same.
        """
        account = self._account(lane)
        account.before_session = account.foreseen_end()

    def next_sequence(self, lane: int) -> int:
        """The `next_sequence` of an `OpenLane` about to be sent; ask once for each.

        For a lane that the present worker has not heard of it is the first frame that no worker
        looked at, so that what was overwritten while none was there shows as a gap.
        """
        account = self._account(lane)
        if account.is_known_to_worker:
            return account.counts.published + 1
        account.is_known_to_worker = True
        return account.first_unread

    def close_worker(self, remains: Mapping[int, LaneRemains]) -> None:
        """The worker has ended, and its last report is noted: no frame of it stays unaccounted.

        Call `note_counts` for every lane at the same instant at which the remains were counted
        (before a source can publish again). What it had in flight has failed, unless its avatar
        frame is there; what it had looked at, or might have, is abandoned.
        """
        for lane in self._accounts.keys() | remains.keys():
            self._account(lane).close(remains.get(lane, LaneRemains()))

    def lane(self, lane: int) -> Tally:
        """The lane's frames since the server began."""
        account = self._account(lane)
        return account.present()

    def session(self, lane: int) -> Tally:
        """The frames of the lane's present session alone."""
        account = self._account(lane)
        return _since(account.present(), account.before_session)

    def totals(self) -> Tally:
        """All lanes' frames since the server began."""
        total = Tally()
        for lane in self._accounts:
            total = _sum(total, self.lane(lane))
        return total

    def _account(self, lane: int) -> _Account:
        return self._accounts.setdefault(lane, _Account())


class LastingTotals:
    """Named counters of a worker that begin at 0 with each process, and must not fall with it."""

    def __init__(self) -> None:
        self._of_dead: dict[str, int] = {}
        self._of_living: dict[str, int] = {}

    def note(self, counts: Mapping[str, int]) -> None:
        """The present worker's counters, since it began."""
        self._of_living.update(counts)

    def close_worker(self) -> None:
        """The worker has ended; the next one's counters begin at 0."""
        self._of_dead = {name: self[name] for name in self._of_dead | self._of_living}
        self._of_living = {}

    def __getitem__(self, name: str) -> int:
        """The total since the server began; 0 for a counter never noted."""
        return self._of_dead.get(name, 0) + self._of_living.get(name, 0)


class _Account:
    """One lane."""

    __slots__ = (
        "before_session",
        "counts",
        "first_unread",
        "is_known_to_worker",
        "of_dead",
        "tally",
    )

    def __init__(self) -> None:
        self.counts = LaneCounts()
        self.of_dead = Tally()  # the closed accounts of the workers that ended
        self.tally = Tally()  # what the present one said last
        self.before_session = Tally()
        self.first_unread = 1
        self.is_known_to_worker = False

    def known(self, untaken: int = 0) -> Tally:
        """The last report, brought up to what the stream side has seen since.

        `unsent` is the workers' own alone.
        """
        told = _sum(self.of_dead, self.tally)
        # Whatever has left the outbox was emitted, by whomever it was taken.
        gone = self.counts.avatars_taken + told.unsent + untaken
        # What the source took back is no frame that the worker looked at: it comes on top.
        overwritten = max(told.overwritten, self.counts.taken_back)
        return _balanced(
            arrived=told.arrived - told.overwritten + overwritten,
            overwritten=overwritten,
            late=told.late,
            abandoned=told.abandoned,
            batched=told.batched,
            failed=told.failed,
            emitted=max(told.emitted, gone),
            unsent=told.unsent,
        )

    def present(self) -> Tally:
        """All that is known, the avatar frames that the stream side skipped among the unsent."""
        known = self.known()
        return replace(known, unsent=known.unsent + self.counts.avatars_skipped)

    def foreseen_end(self) -> Tally:
        """How the present lease will stand when nothing of it is left anywhere."""
        closed = _closed(self.known(), self.counts.published)
        shown = self.counts.avatars_taken - self.counts.avatars_skipped
        return replace(closed, unsent=closed.emitted - shown)

    def close(self, remains: LaneRemains) -> None:
        read = self.counts.published - remains.unread
        self.of_dead = _closed(self.known(remains.untaken), read)
        self.tally = Tally()
        self.first_unread = read + 1
        self.is_known_to_worker = False


def _balanced(
    *,
    arrived: int,
    overwritten: int,
    late: int,
    abandoned: int,
    batched: int,
    failed: int,
    emitted: int,
    unsent: int,
) -> Tally:
    """A tally that obeys both laws: a fate that is certain makes sure of what came before it.

    `waiting` and `in_flight` are what remains, and as no other number here ever falls when the
    arguments don't, they alone can.
    """
    batched = max(batched, failed + emitted)
    arrived = max(arrived, overwritten + late + abandoned + batched)
    return Tally(
        arrived=arrived,
        overwritten=overwritten,
        late=late,
        abandoned=abandoned,
        waiting=arrived - overwritten - late - abandoned - batched,
        batched=batched,
        in_flight=batched - failed - emitted,
        failed=failed,
        emitted=emitted,
        unsent=unsent,
    )


def _closed(tally: Tally, arrived: int) -> Tally:
    """With nothing waiting and nothing in flight, after so many arrivals."""
    arrived = max(arrived, tally.arrived)
    return Tally(
        arrived=arrived,
        overwritten=tally.overwritten,
        late=tally.late,
        abandoned=arrived - tally.overwritten - tally.late - tally.batched,
        batched=tally.batched,
        failed=tally.batched - tally.emitted,
        emitted=tally.emitted,
        unsent=tally.unsent,
    )


def _since(now: Tally, then: Tally) -> Tally:
    """What came after `then`, of which a few frames may have ended otherwise than foreseen."""
    return _balanced(
        arrived=max(0, now.arrived - then.arrived),
        overwritten=max(0, now.overwritten - then.overwritten),
        late=max(0, now.late - then.late),
        abandoned=max(0, now.abandoned - then.abandoned),
        batched=max(0, now.batched - then.batched),
        failed=max(0, now.failed - then.failed),
        emitted=max(0, now.emitted - then.emitted),
        unsent=max(0, now.unsent - then.unsent),
    )


def _sum(one: Tally, other: Tally) -> Tally:
    return Tally(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))
