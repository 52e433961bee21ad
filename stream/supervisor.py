"""Keeps one worker process alive: starts it, listens for its heart, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from signal import SIGKILL
from typing import Protocol, assert_never

from stream.child import Child, RestartBudget
from stream.gpu_watch import GpuWatch
from stream.partner import partner
from stream.post import Post
from workers.channel import Channel
from workers.errors import WorkerLost, WorkerRefused
from workers.messages import (
    BatchDone,
    Beat,
    CaptureLost,
    Descriptor,
    Drain,
    Drained,
    FromWorker,
    Happened,
    IdentitySet,
    LaneClosed,
    Loaded,
    OpenLane,
    Ready,
    Refused,
    Report,
    ToLane,
    WorkerSpec,
)
from workers.ring import Arena

log = logging.getLogger(__name__)

START_DEADLINE_S = 120.0  # from the spawn to the first beat
LAST_WORDS_S = 2.0  # from the end of the channel to the end of the process
DRAIN_S = 2.0
TERMINATE_S = 0.5
RESTARTS_PER_MIN = 3


class WorkerEvents(Protocol):
    """What a supervisor tells the server, always on the event loop; none of these may wait."""

    def on_loaded(self, worker: int, loaded: Loaded) -> Arena:
        """The arena to run in: made at the first call, the same one at each restart."""

    def lanes(self, worker: int) -> Sequence[tuple[OpenLane, int | None]]:
        """Every live lane, with its identity's descriptor; sent to a worker that is ready."""

    def on_ready(self, worker: int, ready: Ready) -> None:
        """Warmed up, its lanes open: from now on `Supervisor.send` reaches it."""

    def on_report(self, worker: int, report: Report) -> None: ...

    def on_batch(self, worker: int, done: BatchDone) -> None: ...

    def on_happened(self, worker: int, happened: Happened) -> None: ...

    def on_lane_closed(self, worker: int, closed: LaneClosed) -> None: ...

    def on_identity_set(self, worker: int, answer: IdentitySet) -> None: ...

    def on_lost(self, worker: int, reason: str) -> None:
        """The process is gone and waited for: the arena's slots may be reclaimed."""


def environment_for(spec: WorkerSpec) -> dict[str, str]:
    """What a worker's environment has on top of ours; a thread count that is set there stands."""
    threads = str(spec.threads or 1)
    environment = {
        # The arena and the model are long-lived; what a batch allocates and frees on the host
        # should come from the heap again, not from mmap and munmap.
        "MALLOC_TRIM_THRESHOLD_": "1000000000",
        "MALLOC_MMAP_THRESHOLD_": "1000000000",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if spec.threads is not None or name not in os.environ:
            environment[name] = threads
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if own := os.environ.get(name):
            # Segments that grow in place would do so unseen, and graphs have no use for them.
            environment[name] = f"{own},expandable_segments:False"
    return environment


class Supervisor:
    """One worker, over all its lives."""

    def __init__(
        self,
        spec: WorkerSpec,
        events: WorkerEvents,
        *,
        restarts_per_min: int = RESTARTS_PER_MIN,
        module: str = "workers.worker",
    ) -> None:
        self._spec = spec
        self._events = events
        self._budget = RestartBudget(restarts_per_min)
        self._module = module
        self._name = f"worker {spec.index}"
        self._child: Child | None = None
        self._post: Post | None = None
        self._gpu: GpuWatch | None = None
        self._condemned: str | None = None  # why this process must not go on
        self._is_ready = False
        self._has_drained = False
        self._is_stopping = False
        self._deadline_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None  # wakes us at the deadline
        self._doing = "starting"
        self._wake = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        return self._is_ready

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def send(self, message: ToLane, fd: int | None = None) -> bool:
        """To a ready worker; False without one: what still holds is told by `lanes` later.

        `fd` stays the caller's.
        """
        if not self._is_ready:
            return False
        self._put(message, fd)
        return True

    async def run(self) -> None:
        """Until `stop`. Raises WorkerRefused for a user's mistake, WorkerLost when it dies or
        falls silent too often."""
        try:
            while not self._is_stopping:
                reason = await self._live()
                if self._is_stopping:
                    return
                log.warning("worker lost: worker=%d %s", self._spec.index, reason)
                self._events.on_lost(self._spec.index, reason)
                if not self._budget.spend(asyncio.get_running_loop().time()):
                    raise WorkerLost(
                        f"{self._name} was lost too often within a minute, last: {reason}; "
                        "its own words are in the log above"
                    )
        finally:
            self._over.set()

    async def stop(self) -> None:
        """Drains the worker and returns when `run` is over: within 3 s."""
        self._is_stopping = True
        self._wake.set()
        await self._over.wait()

    # ------------------------------------------------------------ a life

    async def _live(self) -> str:
        """One process from spawn to the end; why it went."""
        environment = environment_for(self._spec)
        async with partner(self._name, self._module, environment, self._wake) as it:
            self._child, self._post = it.child, it.post
            self._has_drained = False
            self._condemned = None
            self._gpu = GpuWatch(self._hear_of_gpu, self._condemn)
            try:
                return await self._converse(it.child, it.channel)
            finally:
                self._gpu.end()
                self._is_ready = False
                self._child = self._post = None

    async def _converse(self, child: Child, channel: Channel) -> str:
        self._expect_beat("starting", START_DEADLINE_S)
        self._put(self._spec)
        try:
            while not self._is_stopping:
                await self._wake.wait()
                self._wake.clear()
                heard = self._listen(channel)
                if self._condemned is not None:
                    return self._condemned
                if asyncio.get_running_loop().time() >= self._deadline_s:
                    if not heard:
                        return f"silent for its deadline while {self._doing}"
                    self._wake.set()  # it spoke, though no beat: once more
            return await self._drain(child, channel)
        except EOFError:
            return await self._last_words(child)
        finally:
            self._silence_alarm()

    def _listen(self, channel: Channel) -> bool:
        """Whether there was anything. Raises EOFError when the worker is gone."""
        heard = False
        while (received := channel.receive()) is not None:
            heard = True
            message, _ = received
            self._answer(message)  # type: ignore[arg-type]  # its sender is our own code
        return heard

    def _answer(self, message: FromWorker) -> None:
        worker = self._spec.index
        match message:
            case Beat(phase, deadline_s):
                self._expect_beat(phase.value, deadline_s)
            case Loaded():
                arena = self._events.on_loaded(worker, message)
                for index, fd in enumerate(arena.fds):
                    self._put(Descriptor(index), fd)
                self._put(arena.describe())
            case Ready():
                for lane, identity_fd in self._events.lanes(worker):
                    self._put(lane, identity_fd)
                self._is_ready = True
                self._events.on_ready(worker, message)
                if self._gpu is not None and self._child is not None:
                    self._gpu.begin(message.device_uuid, self._child.pid)
            case Report():
                self._events.on_report(worker, message)
            case BatchDone():
                self._events.on_batch(worker, message)
            case LaneClosed():
                self._events.on_lane_closed(worker, message)
            case IdentitySet():
                self._events.on_identity_set(worker, message)
            case Happened():
                self._events.on_happened(worker, message)
            case Drained():
                self._has_drained = True
            case CaptureLost(reason):
                log.warning("no graph, slower: worker=%d %s", worker, reason)
                self._spec = replace(self._spec, capture=False)
            case Refused(reason):
                raise WorkerRefused(reason)
            case never:
                assert_never(never)

    def _hear_of_gpu(self, happened: Happened) -> None:
        self._events.on_happened(self._spec.index, happened)

    def _condemn(self, reason: str) -> None:
        self._condemned = reason
        self._wake.set()

    def _expect_beat(self, doing: str, within_s: float) -> None:
        # One alarm a beat: a timeout around each wait would cost as much as the word it waits for.
        loop = asyncio.get_running_loop()
        self._doing = doing
        self._deadline_s = loop.time() + within_s
        self._silence_alarm()
        self._alarm = loop.call_at(self._deadline_s, self._wake.set)

    def _silence_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _put(self, message: object, fd: int | None = None) -> None:
        if self._post is None:
            return
        try:
            has_room = self._post.send(message, fd)
        except EOFError:
            return  # gone, which `_converse` finds out
        if not has_room and self._child is not None:
            log.error("worker does not read its channel: worker=%d", self._spec.index)
            self._child.signal(SIGKILL)

    # ------------------------------------------------------------ the end

    async def _drain(self, child: Child, channel: Channel) -> str:
        if not self._is_ready:
            return "stopped before it was ready"
        self._is_ready = False
        self._put(Drain())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while not self._has_drained:
                    await self._wake.wait()
                    self._wake.clear()
                    self._listen(channel)
                await child.wait()
                return "drained"
        log.warning("worker did not drain: worker=%d for_s=%.1f", self._spec.index, DRAIN_S)
        await child.end(TERMINATE_S)
        return "stopped"

    async def _last_words(self, child: Child) -> str:
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                return await child.wait()
        except TimeoutError:
            return "closed its channel"
