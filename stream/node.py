"""The node: who is admitted, and what becomes of them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiortc import RTCIceCandidate

from stream import heap
from stream.contract import Phase, WorkerBatch, WorkerMemory, WorkerSummary, in_utc
from stream.controls import Controls
from stream.drops import Dropped
from stream.herald import VERSION, Herald
from stream.identities import Identities
from stream.lanes import Lanes
from stream.limits import viewers_limit
from stream.live import LiveSession, Watcher
from stream.network import Network
from stream.portraits import Portraits
from stream.registry import SECRET_BYTES, Registry
from stream.session import Session, Source, State
from stream.settings import Settings
from stream.signalling import (
    GONE,
    NodeState,
    Published,
    QueueMark,
    SessionView,
    Watching,
)
from stream.sinks.viewer import Viewer
from stream.sources.webrtc import WebRtcSource
from stream.telemetry import Telemetry
from workers.errors import NoSuchSession, OmokageError, ServerFull
from workers.messages import Happened, Loaded, Ready

log = logging.getLogger(__name__)

TICK_S = 0.1
OVERVIEW_EVERY_S = 30.0
CLOSE_S = 2.0
WEAR_S = 180.0  # for a portrait: its upload, the preparer's start and work, a worker's restart
MOST_WEARING = 8


class Node:
    """What the doors lead to (`signalling.Stage`), and who hears the worker's news.

    An async context manager: leaving it ends every session. Belongs to the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        lanes: Lanes,
        telemetry: Telemetry,
        identities: Identities,
    ) -> None:
        self._settings = settings
        self._network = Network(settings.ice_servers, settings.udp_ports, settings.announce)
        self._registry = registry
        self._lanes = lanes
        self._telemetry = telemetry
        self._herald = Herald(settings, lanes, telemetry)
        self._live: dict[str, LiveSession] = {}  # by the session's secret
        self._watched: dict[str, LiveSession] = {}  # by the viewer's secret
        self._viewers_limit = viewers_limit(registry.max_sessions)
        self._opening = 0  # viewers whose offer is being answered
        self._encoders = ThreadPoolExecutor(os.cpu_count() or 1, "encoder")
        self._tasks = asyncio.TaskGroup()
        self._ticker: asyncio.Task[None] | None = None
        self._has_served = False
        self._has_closed = False  # a connection, since its leavings were collected
        self.on_failed: Callable[[OmokageError], None] = lambda error: None
        self._preparing: asyncio.Task[None] | None = None
        self._portraits = Portraits(identities)
        self._foreseeing: asyncio.Task[None] | None = None
        self._wearing = 0  # portraits on their way
        self.on_serving: Callable[[Ready], None] = lambda ready: None
        self._ready: Ready | None = None
        lanes.listener = self
        lanes.on_model = self._model_loaded

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._ticker = self._tasks.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._ticker is not None
        self._ticker.cancel()
        for task in (self._preparing, self._foreseeing):
            if task is not None:
                task.cancel()
        for live in tuple(self._live.values()):
            self._end(live, "server_stopped")
        await self._tasks.__aexit__(kind, error, trace)
        self._encoders.shutdown(wait=False, cancel_futures=True)
        self._portraits.close()
        self._lanes.close()

    # -------------------------------------------------------- signalling.Stage

    @property
    def ready(self) -> bool:
        return self._telemetry.phase is Phase.SERVING

    @property
    def reason(self) -> str | None:
        match self._telemetry.phase:
            case Phase.SERVING:
                return None
            case Phase.WARMING:
                return "the worker is warming up: try again in a moment"
            case Phase.DRAINING:
                return "the server is stopping"
            case Phase.FAILED:
                return "the worker has failed: the server's log says why"

    async def publish(self, name: str | None, offer: str, portrait: str | None = None) -> Published:
        if portrait is None:
            identity_fd = self._portraits.default()
        else:
            self._portraits.check(portrait)
            identity_fd = await self._portraits.identity(portrait)
        live = self._admit(name, Source.WEBRTC, identity_fd)
        try:
            answer = await live.publish(offer, lambda state: self._source_state(live, state))
        except BaseException:
            self._end(live, "refused")
            raise
        return Published(answer, live.session.facts.secret, live.session.name)

    async def watch(self, name: str, offer: str) -> Watching:
        session = self._registry.by_name(name)
        live = None if session is None else self._live.get(session.facts.secret)
        if live is None:
            raise NoSuchSession("no session has this name: GET /sessions lists them")
        if len(self._watched) + self._opening >= self._viewers_limit:
            raise ServerFull(
                f"all {self._viewers_limit} viewers' places are taken: try again later"
            )
        watcher = Watcher(secrets.token_urlsafe(SECRET_BYTES), None, time.monotonic())
        self._opening += 1
        try:
            viewer = await self._open_viewer(live, watcher, offer)
        finally:
            self._opening -= 1
        if live.session.life.is_over:
            await viewer.close()
            raise NoSuchSession("the session has just ended")
        watcher.viewer = viewer
        live.watchers[watcher.secret] = watcher
        self._watched[watcher.secret] = live
        return Watching(viewer.answer, watcher.secret)

    async def _open_viewer(self, live: LiveSession, watcher: Watcher, offer: str) -> Viewer:
        return await Viewer.open(
            offer,
            live.renditions,
            lambda state: self._viewer_state(watcher, state),
            live.sound,
            self._network,
        )

    async def end(self, secret: str) -> bool:
        if (live := self._live.get(secret)) is not None:
            self._end(live, "left")
            return True
        if secret in self._watched:
            self._dismiss(secret)
            return True
        return False

    def ice_ufrags(self, secret: str) -> frozenset[str] | None:
        peer = self._peer(secret)
        return None if peer is None else peer.ufrags

    async def trickle(self, secret: str, candidates: Sequence[RTCIceCandidate]) -> None:
        if (peer := self._peer(secret)) is not None:
            await peer.trickle(candidates)

    def _peer(self, secret: str) -> WebRtcSource | Viewer | None:
        if (live := self._live.get(secret)) is not None:
            return live.source if isinstance(live.source, WebRtcSource) else None
        if (live := self._watched.get(secret)) is not None:
            return live.watchers[secret].viewer
        return None

    def portraits(self) -> Sequence[str]:
        if self.ready and self._foreseeing is None:
            # Whoever looks at them will soon wear one.
            self._foreseeing = self._tasks.create_task(self._portraits.foresee())
        return self._portraits.names

    async def portrait_file(self, name: str) -> bytes:
        return await self._portraits.file(name)

    async def wear(self, secret: str, portrait: Callable[[], Awaitable[bytes | str]]) -> None:
        live = self._live.get(secret)
        if live is None:
            raise NoSuchSession(GONE)
        self._portraits.check(None)
        if self._wearing >= MOST_WEARING:
            raise ServerFull(f"{self._wearing} portraits are on their way: try again in a moment")
        self._wearing += 1
        try:
            async with live.portraits.turn(WEAR_S):
                asked = await portrait()
                if isinstance(asked, bytes):
                    identity_fd = await self._portraits.identity(await self._portraits.read(asked))
                else:
                    identity_fd = await self._portraits.identity(asked)
                assert identity_fd is not None, "the model has an identity, as was checked"
                await self._lanes.set_identity(live.tenancy, identity_fd)
        finally:
            self._wearing -= 1
        name = asked if isinstance(asked, str) else "an upload"
        log.info("portrait changed: session=%s portrait=%s", live.session.name, name)

    def controls(self, secret: str) -> Controls | None:
        live = self._live.get(secret)
        return None if live is None else live.controls

    def sessions(self) -> Sequence[SessionView]:
        return [self._view(live) for live in self._live.values()]

    def session(self, name: str) -> SessionView | None:
        session = self._registry.by_name(name)
        live = None if session is None else self._live.get(session.facts.secret)
        return None if live is None else self._view(live)

    def state(self) -> NodeState:
        loaded, ready, report = self._lanes.loaded, self._lanes.ready, self._lanes.report
        return NodeState(
            node=self._settings.node,
            boot_id=self._telemetry.boot_id,
            version=VERSION,
            phase=self._telemetry.phase.value,
            model=self._settings.model,
            sessions=len(self._live),
            sessions_limit=self._registry.max_sessions,
            viewers=len(self._watched),
            batch_sizes=loaded.batch_sizes if loaded else (),
            width=loaded.geometry.width if loaded else None,
            height=loaded.geometry.height if loaded else None,
            device=ready.device_name if ready else None,
            busy_ratio=report.busy_ratio if report else None,
            fill_ratio=self._lanes.fill_ratio,
            memory_bytes=self._lanes.memory_bytes,
            memory_kind=self._lanes.memory_kind,
            queues=self._marks(),
            takes_portraits=self._portraits.are_worn,
            controls=loaded.controls if loaded else {},
        )

    # ---------------------------------------------------------------- cameras

    def open_cameras(self) -> None:
        """A session for each camera of the settings. Raises OmokageError for a wrong one."""
        for camera in self._settings.cameras:
            live = self._admit(camera.name, Source.RTSP, self._portraits.default())
            live.play(camera.url, lambda reason, live=live: self._camera(live, reason))  # type: ignore[misc]  # mypy infers no lambda with a default

    # ------------------------------------------------------- the worker's news

    def worker_ready(self, ready: Ready) -> None:
        self._ready = ready
        if self._preparing is None or self._preparing.done():
            self._serve(ready)

    def _model_loaded(self, loaded: Loaded) -> None:
        self._portraits.model_loaded(loaded)
        if loaded.has_identity and self._preparing is None:
            self._preparing = self._tasks.create_task(self._prepare())

    async def _prepare(self) -> None:
        """The identity of who brings no portrait; nobody is admitted before."""
        try:
            await self._portraits.prepare_default()
        except OmokageError as error:
            self.on_failed(error)
            return
        if self._ready is not None:
            self._serve(self._ready)

    def _serve(self, ready: Ready) -> None:
        again = self._has_served
        self._has_served = True
        self._herald.info(ready)
        self._herald.worker_ready(ready, again)
        self._telemetry.enter(Phase.SERVING)
        if not again:
            self._herald.node_started()
            self.open_cameras()
            self.on_serving(ready)
        else:
            log.info("worker is back: device=%s", ready.device_name)
        self._herald.overview(len(self._live), len(self._watched))

    def worker_lost(self, reason: str) -> None:
        self._ready = None
        self._herald.worker_lost(f"worker 0 was lost: {reason}")
        if self._telemetry.phase is Phase.SERVING:
            self._telemetry.enter(Phase.WARMING)
        self._herald.overview(len(self._live), len(self._watched))

    def worker_reported(self, values: Sequence[WorkerMemory | WorkerSummary]) -> None:
        for value in values:
            self._telemetry.publish(value)

    def worker_ran(self, batch: WorkerBatch) -> None:
        self._telemetry.publish(batch)

    def frames_dropped(self, session: Session, dropped: Dropped) -> None:
        self._herald.frames_dropped(session, dropped)

    def worker_told(self, happened: Happened) -> None:
        self._herald.worker_told(happened)

    def drain(self) -> None:
        """Nobody is admitted from now on, as in a node that has failed."""
        if self._telemetry.phase not in (Phase.DRAINING, Phase.FAILED):
            self._herald.node_draining()
            self._telemetry.enter(Phase.DRAINING)

    def fail(self, reason: str) -> None:
        self._herald.worker_lost(reason)
        self._telemetry.enter(Phase.FAILED)

    # ------------------------------------------------------------------ lives

    def _admit(self, name: str | None, source: Source, identity_fd: int | None) -> LiveSession:
        """identity_fd: the session's from here on, or closed."""
        try:
            session = self._registry.admit(
                name, source, self._settings.model, time.monotonic(), datetime.now(UTC)
            )
        except OmokageError as error:
            if identity_fd is not None:
                os.close(identity_fd)
            if isinstance(error, ServerFull):
                self._herald.session_refused(str(error))
            raise
        assert self._lanes.loaded is not None, "nobody is admitted before"
        tenancy = self._lanes.open(session, identity_fd)
        controls = Controls(self._lanes.loaded.controls)
        controls.listen(lambda changed: self._lanes.set_controls(tenancy, changed))
        live = LiveSession(
            session, tenancy, self._lanes.geometry, self._encoders, self._network, controls
        )
        self._live[session.facts.secret] = live
        self._herald.session(live)
        self._herald.session_started(session)
        return live

    def _end(self, live: LiveSession, reason: str) -> None:
        """Its lane is free when this returns; its connections close meanwhile."""
        session = live.session
        if self._live.pop(session.facts.secret, None) is None:
            return
        session.end(time.monotonic(), reason)
        for secret in live.watchers:
            self._watched.pop(secret, None)
        self._lanes.end(live.tenancy)
        self._registry.release(session)
        live.since = datetime.now(UTC)
        if live.channel.ignored:
            log.warning(
                "control messages ignored: session=%s n=%d", session.name, live.channel.ignored
            )
        self._herald.session(live)
        self._herald.session_ended(session)
        self._tasks.create_task(self._closing(live.close()))

    def _source_state(self, live: LiveSession, state: str) -> None:
        if state in ("failed", "closed"):
            # A peer that vanished is closed like one that left, but was silent before.
            has_left = state == "closed" and live.session.state is not State.HOLDING
            self._end(live, "left" if has_left else "connection_failed")

    def _viewer_state(self, watcher: Watcher, state: str) -> None:
        if state in ("failed", "closed"):
            self._dismiss(watcher.secret)
        elif state == "connected" and not watcher.is_connected:
            watcher.is_connected = True
            if (live := self._watched.get(watcher.secret)) is not None:
                self._count_viewers(live)

    def _dismiss(self, secret: str) -> None:
        live = self._watched.pop(secret, None)
        if live is None:
            return
        watcher = live.watchers.pop(secret)
        self._count_viewers(live)
        if watcher.viewer is not None:
            self._tasks.create_task(self._closing(watcher.viewer.close()))

    def _count_viewers(self, live: LiveSession) -> None:
        connected = sum(it.is_connected for it in live.watchers.values())
        if connected != live.session.viewers:
            live.session.viewers = connected
            self._herald.session(live)

    def _camera(self, live: LiveSession, reason: str | None) -> None:
        session = live.session
        if session.life.is_over:
            return
        if reason is None:
            self._herald.camera_back(session)
        else:
            self._herald.camera_lost(session, reason)

    # ------------------------------------------------------------------ clock

    async def _run(self) -> None:
        overview_at_s = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            if self._has_closed:
                self._has_closed = False
                heap.collect()
            for live in tuple(self._live.values()):
                self._look(live, now_s)
            if now_s >= overview_at_s:
                overview_at_s = now_s + OVERVIEW_EVERY_S
                self._herald.overview(len(self._live), len(self._watched))

    def _look(self, live: LiveSession, now_s: float) -> None:
        session = live.session
        before = session.state
        if live.look(now_s):
            match session.state:
                case State.ENDED:
                    self._end(live, session.life.reason or "silent")
                    return
                case State.HOLDING:
                    self._herald.session_stalled(session)
                case State.LIVE if before is State.HOLDING:
                    self._herald.session_resumed(session)
                case _:
                    pass
            self._herald.session(live)
        for watcher in tuple(live.watchers.values()):
            if watcher.is_overdue(now_s):
                self._dismiss(watcher.secret)

    async def _closing(self, closing: Coroutine[None, None, None]) -> None:
        """One session's end is nobody else's trouble."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await closing
        except TimeoutError:
            log.warning("a connection did not close: for_s=%.1f", CLOSE_S)
        except Exception:
            log.exception("closing a connection failed")
        finally:
            self._has_closed = True

    # ------------------------------------------------------------------ words

    def _view(self, live: LiveSession) -> SessionView:
        session, report, ready = live.session, self._lanes.report, self._lanes.ready
        figures = live.tenancy.figures
        loaded = self._lanes.loaded
        return SessionView(
            name=session.name,
            state=session.state.value,
            reason=session.life.reason,
            since=in_utc(live.since),
            source=session.facts.source.value,
            avatar=session.facts.avatar,
            viewers=session.viewers,
            in_fps=figures.in_fps,
            out_fps=figures.out_fps,
            age_ms=report.age_ms.p50 if report else None,
            fill_ratio=self._lanes.fill_ratio,
            memory_bytes=self._lanes.memory_bytes,
            memory_kind=self._lanes.memory_kind,
            device=ready.device_name if ready else None,
            batch_size=max(loaded.batch_sizes) if loaded else None,
            frames=self._lanes.frames(live.tenancy),
            frames_shown=live.tenancy.feed.taken,
        )

    def _marks(self) -> tuple[QueueMark, ...]:
        """Of each kind of queue the fullest."""
        fullest: dict[str, QueueMark] = {}
        for mark in (mark for live in self._live.values() for mark in live.marks()):
            known = fullest.get(mark.name)
            if known is None or mark.high_water > known.high_water:
                fullest[mark.name] = mark
        return tuple(fullest.values())
