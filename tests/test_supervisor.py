"""stream/supervisor.py against a real child process that speaks the worker's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from stream.child import RestartBudget
from stream.supervisor import Supervisor, environment_for
from tests.processes import descriptors, is_gone
from workers.errors import WorkerLost, WorkerRefused
from workers.messages import (
    BatchDone,
    Fill,
    Happened,
    IdentitySet,
    LaneClosed,
    Loaded,
    OpenLane,
    Ready,
    Report,
    WorkerSpec,
)
from workers.ring import Arena

SESSIONS = 3


def spec(script: str = "serve", threads: int | None = None) -> WorkerSpec:
    return WorkerSpec(0, script, "cpu", None, None, 0.008, Fill.LAST, SESSIONS, threads, False)


class Server:
    """The server's half: one arena, some live lanes, and what it was told."""

    def __init__(self) -> None:
        self.arena: Arena | None = None
        self.loaded = 0
        self.ready = 0
        self.opened: list[tuple[object, object, object]] = []
        self.lost: list[str] = []
        self.live: list[tuple[OpenLane, int | None]] = []

    def on_loaded(self, worker: int, loaded: Loaded) -> Arena:
        self.loaded += 1
        if self.arena is None:
            self.arena = Arena.create(loaded.geometry, SESSIONS, 5, 5)
        return self.arena

    def lanes(self, worker: int) -> Sequence[tuple[OpenLane, int | None]]:
        return self.live

    def on_ready(self, worker: int, ready: Ready) -> None:
        self.ready += 1

    def on_report(self, worker: int, report: Report) -> None: ...

    def on_batch(self, worker: int, done: BatchDone) -> None: ...

    def on_lane_closed(self, worker: int, closed: LaneClosed) -> None: ...

    def on_identity_set(self, worker: int, answer: IdentitySet) -> None: ...

    def on_happened(self, worker: int, happened: Happened) -> None:
        data = happened.data
        self.opened.append((data["lane"], data["lease"], data["identity"]))

    def on_lost(self, worker: int, reason: str) -> None:
        self.lost.append(reason)


@contextlib.asynccontextmanager
async def running(server: Server, script: str = "serve") -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(spec(script), server, module="tests.fake_worker")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            yield supervisor
            await supervisor.stop()
    finally:
        if server.arena is not None:
            server.arena.close()


async def until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110  # what holds has no event of its own
            await asyncio.sleep(0.01)


async def test_a_worker_attaches_the_arena_opens_its_lanes_and_drains() -> None:
    server = Server()
    identity_fd = os.memfd_create("identity")
    os.pwrite(identity_fd, b"aya", 0)
    server.live = [(OpenLane(0, 7, 1), identity_fd), (OpenLane(2, 9, 40), None)]
    async with running(server) as supervisor:
        await until(lambda: len(server.opened) == 2)
        assert server.opened == [(0, 7, "aya"), (2, 9, None)]
        assert supervisor.send(OpenLane(1, 8, 1), identity_fd)
        await until(lambda: len(server.opened) == 3)
        pid = supervisor.pid
        assert pid is not None
        began_s = time.monotonic()
    os.close(identity_fd)
    assert time.monotonic() - began_s < 2
    assert is_gone(pid) and server.lost == []
    assert not supervisor.is_ready and not supervisor.send(OpenLane(1, 9, 1))


async def test_a_killed_worker_comes_back_with_the_same_arena_and_lanes() -> None:
    server = Server()
    server.live = [(OpenLane(1, 4, 1), None)]
    async with running(server) as supervisor:
        await until(lambda: len(server.opened) == 1)
        arena, pid = server.arena, supervisor.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(server.opened) == 2)
        assert server.lost == ["killed by SIGKILL"]
        assert server.arena is arena and server.loaded == server.ready == 2
        assert supervisor.pid != pid and is_gone(pid)


async def test_a_worker_that_misses_its_own_deadline_is_killed_and_restarted() -> None:
    server = Server()
    with pytest.raises(ExceptionGroup) as raised:
        async with running(server, "stall"):
            await asyncio.sleep(30)
    assert raised.group_contains(WorkerLost, match="too often.*silent .* while batch")
    assert len(server.lost) == 4  # three restarts are allowed within a minute


async def test_a_worker_that_crashes_at_start_ends_the_server_with_the_reason() -> None:
    server = Server()
    with pytest.raises(ExceptionGroup) as raised:
        async with running(server, "crash"):
            await asyncio.sleep(30)
    assert raised.group_contains(WorkerLost, match="SIGSEGV")
    assert server.lost == ["killed by SIGSEGV"] * 4


async def test_a_worker_whose_capture_failed_comes_back_without_one() -> None:
    server = Server()
    async with running(server, "uncapturable") as supervisor:
        await until(lambda: supervisor.is_ready)
    assert server.lost == ["left with exit code 1"]


async def test_a_users_mistake_is_not_tried_again() -> None:
    server = Server()
    with pytest.raises(ExceptionGroup) as raised:
        async with running(server, "refuse"):
            await asyncio.sleep(30)
    assert raised.group_contains(WorkerRefused, match="^model 'nobody' is unknown: pass toon$")
    assert server.lost == []


async def test_a_worker_that_does_not_drain_is_gone_within_three_seconds() -> None:
    server = Server()
    async with running(server, "deaf") as supervisor:
        await until(lambda: supervisor.is_ready)
        pid = supervisor.pid
        assert pid is not None
        began_s = time.monotonic()
    assert 2 <= time.monotonic() - began_s < 3
    assert is_gone(pid)


async def test_a_cancelled_supervisor_leaves_no_process_descriptor_or_thread() -> None:
    async def live_and_die() -> int:
        server = Server()
        task = asyncio.create_task(
            (supervisor := Supervisor(spec(), server, module="tests.fake_worker")).run()
        )
        await until(lambda: supervisor.is_ready)
        pid = supervisor.pid
        assert pid is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert server.arena is not None
        server.arena.close()
        return pid

    await live_and_die()  # asyncio's own first-time descriptors
    before = descriptors()
    pid = await live_and_die()
    assert is_gone(pid)
    assert descriptors() == before
    await until(lambda: not [t for t in threading.enumerate() if "waitpid" in t.name])


def test_a_worker_leaves_when_its_server_was_killed() -> None:
    script = (
        "import asyncio, tests.test_supervisor as t\n"
        "async def main():\n"
        "    async with t.running(t.Server(), 'sleep') as s:\n"
        "        await t.until(lambda: s.is_ready)\n"
        "        print(s.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parent.parent
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root) as it:
        assert it.stdout is not None
        pid = int(it.stdout.readline())
        assert not is_gone(pid)
        it.kill()
        end_s = time.monotonic() + 2
        while not is_gone(pid) and time.monotonic() < end_s:
            time.sleep(0.01)
        assert is_gone(pid)


def test_the_budget_counts_the_restarts_of_the_last_minute_only() -> None:
    budget = RestartBudget(3)
    assert [budget.spend(now_s) for now_s in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]
    assert budget.spend(60.5)
    assert not budget.spend(60.6)


def test_a_worker_computes_on_one_thread_unless_somebody_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment_for(spec())["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert "OMP_NUM_THREADS" not in environment_for(spec())
    assert environment_for(spec(threads=2))["OMP_NUM_THREADS"] == "2"


def test_an_allocator_s_setting_stands_but_its_segments_never_grow_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    assert "PYTORCH_ALLOC_CONF" not in environment_for(spec())
    own = "max_split_size_mb:64,expandable_segments:True"
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", own)
    assert environment_for(spec())["PYTORCH_ALLOC_CONF"] == f"{own},expandable_segments:False"
