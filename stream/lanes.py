"""A worker as the stream side sees it: its arena, who has which lane, its accounts."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.books import Books, LaneCounts, LaneRemains
from stream.card import make_card
from stream.contract import OverviewWorker, WorkerBatch, WorkerMemory, WorkerSummary
from stream.drops import Dropped, DropWatch
from stream.feed import Feed
from stream.history import WorkerHistory
from stream.lane import LaneInbox
from stream.registry import Registry
from stream.session import Session
from workers.errors import NoSuchSession, PortraitOvertaken, PortraitRefused
from workers.geometry import Geometry
from workers.messages import (
    BatchDone,
    CloseLane,
    Happened,
    IdentitySet,
    LaneClosed,
    Loaded,
    OpenLane,
    Ready,
    Report,
    SetControls,
    SetIdentity,
    Tally,
    ToLane,
)
from workers.ring import Arena
from workers.swscale import Fit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """A session's last second; None before there is one."""

    in_fps: float | None = None
    out_fps: float | None = None


@dataclass(slots=True, eq=False)
class Dressing:
    """An identity on its way into a lane."""

    identity_fd: int
    answer: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Tenancy:
    """One lease of a lane: the session's way in, and its way out.

    Identity and controls are kept for as long: a new worker gets them again.
    """

    session: Session
    inbox: LaneInbox
    feed: Feed
    identity_fd: int | None
    controls: dict[str, float] = field(default_factory=dict)
    dressing: Dressing | None = None
    figures: Figures = field(default_factory=Figures)
    counted: Tally = field(default_factory=Tally)  # as of the last report
    drops: DropWatch = field(default_factory=DropWatch)


class Speaker(Protocol):
    """The supervisor: reaches the worker while it is ready."""

    def send(self, message: ToLane, fd: int | None = None) -> bool: ...


class Listener(Protocol):
    """Who is told what the worker does."""

    def worker_ready(self, ready: Ready) -> None: ...

    def worker_lost(self, reason: str) -> None: ...

    def worker_reported(self, values: Sequence[WorkerMemory | WorkerSummary]) -> None: ...

    def worker_ran(self, batch: WorkerBatch) -> None: ...

    def frames_dropped(self, session: Session, dropped: Dropped) -> None: ...

    def worker_told(self, happened: Happened) -> None: ...


class Lanes:
    """The lanes of one worker; outlives its processes. Belongs to the event loop."""

    def __init__(
        self,
        registry: Registry,
        fit: Fit,
        index: int = 0,
    ) -> None:
        self._registry = registry
        self._fit = fit
        self._index = index
        self._books = Books()
        self._history = WorkerHistory(index)
        self._ended = [LaneCounts() for _ in range(registry.max_sessions)]
        self._tenants: dict[int, Tenancy] = {}
        self._card: NDArray[np.uint8] | None = None
        self.arena: Arena | None = None
        self.loaded: Loaded | None = None
        self.ready: Ready | None = None
        self.report: Report | None = None
        self.fill_ratio: float | None = None
        self._told_rows = (0, 0)
        self.listener: Listener | None = None
        self.speaker: Speaker | None = None
        self.on_model: Callable[[Loaded], None] = lambda loaded: None

    @property
    def geometry(self) -> Geometry:
        assert self.loaded is not None, "known once the model is loaded"
        return self.loaded.geometry

    def close(self) -> None:
        if self.arena is not None:
            self.arena.close()

    # ---------------------------------------------------------- tenants

    def open(self, session: Session, identity_fd: int | None = None) -> Tenancy:
        """The session's lane is its own now. `identity_fd` is the tenancy's from here on."""
        assert self.arena is not None and self._card is not None
        lane, lease = session.lane, session.lease
        numbers = self._registry.numbers(lane)
        tenancy = Tenancy(
            session,
            LaneInbox(
                self.arena.inbox(lane), lease, numbers.take_sequence, self.geometry, self._fit
            ),
            Feed(self.arena.outbox(lane), lease, self._card),
            identity_fd,
        )
        self._books.note_counts(lane, self._ended[lane])
        self._books.begin_session(lane)
        self._tenants[lane] = tenancy
        if self.ready is not None:
            self._tell(self._opening(tenancy), identity_fd)
        tenancy.feed.open()
        return tenancy

    def end(self, tenancy: Tenancy) -> None:
        """The lane is free for the next; nothing of this lease goes in or out any more."""
        lane, lease = tenancy.session.lane, tenancy.session.lease
        if self._tenants.get(lane) is not tenancy:
            return
        tenancy.inbox.close()
        tenancy.feed.close()
        self._ended[lane] = self._counts(lane)
        del self._tenants[lane]
        self._undress(tenancy, NoSuchSession("the session has ended"))
        if tenancy.identity_fd is not None:
            os.close(tenancy.identity_fd)
            tenancy.identity_fd = None
        if self.ready is not None:
            self._tell(CloseLane(lane, lease), None)

    async def set_identity(self, tenancy: Tenancy, identity_fd: int) -> None:
        """Returns when the worker has it in use; until then the tenant has the one before.

        identity_fd: the tenancy's from here on. While there is no worker this waits for one.
        Raises PortraitRefused for an identity that is not shaped as the model's others,
        PortraitOvertaken by a newer one, NoSuchSession when the session ends meanwhile.
        """
        self._undress(tenancy, PortraitOvertaken("a newer portrait has taken its place"))
        if self._tenants.get(tenancy.session.lane) is not tenancy:
            os.close(identity_fd)
            raise NoSuchSession("the session has ended")
        dressing = Dressing(identity_fd, asyncio.get_running_loop().create_future())
        tenancy.dressing = dressing
        self._send_dressing(tenancy)
        await dressing.answer

    def set_controls(self, tenancy: Tenancy, controls: Mapping[str, float]) -> None:
        """Those that are named, at once and for every worker to come."""
        tenancy.controls.update(controls)
        if self.ready is not None and self._tenants.get(tenancy.session.lane) is tenancy:
            lane, lease = tenancy.session.lane, tenancy.session.lease
            self._tell(SetControls(lane, lease, dict(controls)), None)

    def frames(self, tenancy: Tenancy) -> Tally:
        """The session's own counts."""
        lane = tenancy.session.lane
        self._books.note_counts(lane, self._counts(lane))
        return self._books.session(lane)

    def totals(self) -> Tally:
        """All frames since the server began."""
        for lane in range(len(self._ended)):
            self._books.note_counts(lane, self._counts(lane))
        return self._books.totals()

    # ---------------------------------------------------- worker's events

    def on_loaded(self, worker: int, loaded: Loaded) -> Arena:
        self.loaded = loaded
        if self.arena is None:
            self.arena = Arena.create(loaded.geometry, self._registry.max_sessions)
            self._card = make_card(loaded.geometry)
        self.on_model(loaded)
        return self.arena

    def lanes(self, worker: int) -> Sequence[tuple[OpenLane, int | None]]:
        return [(self._opening(it), it.identity_fd) for it in self._tenants.values()]

    def on_ready(self, worker: int, ready: Ready) -> None:
        self.ready = ready
        self._history.started()
        self._told_rows = (0, 0)
        for tenancy in self._tenants.values():
            self._send_dressing(tenancy)
        if self.listener is not None:
            self.listener.worker_ready(ready)

    def on_report(self, worker: int, report: Report) -> None:
        assert self.loaded is not None
        self.report = report
        self._books.note_tallies(report.tallies)
        memory, summary = self._history.observe(
            report,
            self.totals(),
            sessions=len(self._tenants),
            batch_size=max(self.loaded.batch_sizes),
            now_s=monotonic(),
        )
        self._take_figures(report)
        if self.listener is not None:
            self.listener.worker_reported((memory, summary))

    def on_batch(self, worker: int, done: BatchDone) -> None:
        if self.listener is not None:
            self.listener.worker_ran(WorkerBatch(worker, done))

    def on_happened(self, worker: int, happened: Happened) -> None:
        if self.listener is not None:
            self.listener.worker_told(happened)

    def on_lane_closed(self, worker: int, closed: LaneClosed) -> None:
        self._books.note_tallies({closed.lane: closed.tally})

    def on_identity_set(self, worker: int, answer: IdentitySet) -> None:
        tenancy = self._tenants.get(answer.lane)
        if tenancy is None or tenancy.session.lease != answer.lease or not tenancy.dressing:
            return
        if answer.refused is not None:
            self._undress(tenancy, PortraitRefused(answer.refused))
            return
        dressing, tenancy.dressing = tenancy.dressing, None
        if tenancy.identity_fd is not None:
            os.close(tenancy.identity_fd)
        tenancy.identity_fd = dressing.identity_fd
        if not dressing.answer.done():
            dressing.answer.set_result(None)

    def on_lost(self, worker: int, reason: str) -> None:
        self.ready = None
        self.report = None
        if self.arena is not None:
            self._books.note_tallies(self.arena.ledger.take())
            with ExitStack() as paused:
                for tenancy in self._tenants.values():
                    paused.enter_context(tenancy.inbox.paused())
                self._reclaim(self.arena)
        if self.listener is not None:
            self.listener.worker_lost(reason)

    # ------------------------------------------------------------ figures

    @property
    def memory_kind(self) -> str:
        """gpu: what CUDA has reserved; process: the worker's RSS."""
        report = self.report
        return "gpu" if report and report.memory.reserved_bytes is not None else "process"

    @property
    def memory_bytes(self) -> int | None:
        if self.report is None:
            return None
        memory = self.report.memory
        return memory.rss_bytes if memory.reserved_bytes is None else memory.reserved_bytes

    def overview(self) -> OverviewWorker:
        return self._history.overview(is_ready=self.ready is not None)

    # ------------------------------------------------------------- inside

    def _reclaim(self, arena: Arena) -> None:
        for lane in range(arena.lanes):
            self._books.note_counts(lane, self._counts(lane))
        remains = {
            lane: LaneRemains(
                unread=len(arena.inbox(lane).reclaim().ready),
                untaken=len(arena.outbox(lane).reclaim().ready),
            )
            for lane in range(arena.lanes)
        }
        self._books.close_worker(remains)

    def _opening(self, tenancy: Tenancy) -> OpenLane:
        lane = tenancy.session.lane
        self._books.note_counts(lane, self._counts(lane))
        sequence = self._books.next_sequence(lane)
        return OpenLane(lane, tenancy.session.lease, sequence, dict(tenancy.controls))

    def _send_dressing(self, tenancy: Tenancy) -> None:
        if self.ready is not None and tenancy.dressing is not None:
            message = SetIdentity(tenancy.session.lane, tenancy.session.lease)
            self._tell(message, tenancy.dressing.identity_fd)

    def _undress(self, tenancy: Tenancy, error: Exception) -> None:
        """What is under way will not be kept."""
        dressing, tenancy.dressing = tenancy.dressing, None
        if dressing is not None:
            os.close(dressing.identity_fd)
            if not dressing.answer.done():
                dressing.answer.set_exception(error)

    def _tell(self, message: ToLane, fd: int | None) -> None:
        assert self.speaker is not None
        self.speaker.send(message, fd)

    def _counts(self, lane: int) -> LaneCounts:
        ended = self._ended[lane]
        tenancy = self._tenants.get(lane)
        if tenancy is None:
            return ended
        inbox, feed = tenancy.inbox, tenancy.feed
        skipped = feed.unsent + feed.of_another_lease
        return LaneCounts(
            published=self._registry.numbers(lane).last_sequence,
            taken_back=ended.taken_back + inbox.overwritten,
            avatars_taken=ended.avatars_taken + feed.taken + skipped,
            avatars_skipped=ended.avatars_skipped + skipped,
        )

    def _take_figures(self, report: Report) -> None:
        for tenancy in tuple(self._tenants.values()):
            now, before = self._books.session(tenancy.session.lane), tenancy.counted
            tenancy.counted = now
            shown = now.emitted - now.unsent - before.emitted + before.unsent
            tenancy.figures = Figures(
                in_fps=round((now.arrived - before.arrived) / report.window_s, 1),
                out_fps=round(shown / report.window_s, 1),
            )
            dropped = tenancy.drops.observe(now, monotonic())
            if dropped is not None and self.listener is not None:
                self.listener.frames_dropped(tenancy.session, dropped)
        batched = sum(tally.batched for tally in report.tallies.values())
        filled, rows = report.filled - self._told_rows[0], batched - self._told_rows[1]
        self._told_rows = (report.filled, batched)
        self.fill_ratio = round(filled / (filled + rows), 4) if filled + rows > 0 else None
