"""How a server ends, and how its worker does: nothing is left, nobody is sent away."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from listener import listening
from peers import Client, Performer, Seen
from processes import holders, marked, shared_memory, until, until_gone
from server import Server, children, command_of, serve

from stream.broker import Broker, Kind

GREEN = (54, 34)  # U, V of what the preparer makes of the avatar's own portrait
FLAGS = ("--model", "avatars:Prepared", "--geometry", "64x64", "--max-sessions", "2", "--node", "a")
WORKER = "-m workers.worker"
PROCESSES = (WORKER, "-m workers.preparer", "-m stream.keeper", r"^\S*mosquitto -c")


def is_green(seen: Seen) -> bool:
    return all(abs(has - due) < 10 for has, due in zip(seen.chroma, GREEN, strict=True))


@dataclass
class Stage:
    """A server with a session named aya, live."""

    server: Server
    http: aiohttp.ClientSession
    mark: str  # in the environment of every process of the server
    client: Client = field(default_factory=Client)

    async def begin(self) -> None:
        await self.client.publish(self.http, self.server.base, Performer("red", 20, 64, 64), "aya")
        await until(lambda: sum(map(is_green, self.client.seen)) >= 5, what="a green avatar")

    async def status(self, path: str) -> int:
        async with self.http.get(f"{self.server.base}/{path}") as reply:
            return reply.status

    async def names(self) -> list[str]:
        async with self.http.get(f"{self.server.base}/sessions") as reply:
            return [it["name"] for it in (await reply.json())["sessions"]]

    def process(self, part: str) -> int:
        found = self.has(part)
        assert len(found) == 1, f"{part}: {found}"
        return found[0]

    def has(self, part: str) -> list[int]:
        """The server's processes whose command has this in it."""
        return [it for it in children(self.server.process.pid) if re.search(part, command_of(it))]

    async def until_ready_is(self, status: int, within_s: float) -> None:
        end_s = time.monotonic() + within_s
        while await self.status("readyz") != status:
            assert time.monotonic() < end_s, f"/readyz did not come to {status}"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def stage(*flags: str) -> AsyncIterator[Stage]:
    mark = secrets.token_hex(8)
    async with serve(*FLAGS, *flags, env={"MARK": mark}) as server, aiohttp.ClientSession() as http:
        it = Stage(server, http, mark)
        await it.begin()
        try:
            yield it
        finally:
            await it.client.close()


def no_traceback(lines: Sequence[str]) -> bool:
    return not [line for line in lines if "Traceback" in line or " ERROR " in line]


# -------------------------------------------------------------- the server's end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_is_told_to_stop_leaves_with_code_0(number: signal.Signals) -> None:
    async with stage() as it:
        memory = shared_memory(it.server.process.pid)
        assert memory and {part for part in PROCESSES if it.process(part)} == set(PROCESSES)
        it.server.process.send_signal(number)
        assert await asyncio.wait_for(it.server.process.wait(), 10) == 0
        assert not marked(it.mark) and not holders(memory)
        assert no_traceback(it.server.lines), "\n".join(it.server.lines)


async def test_nothing_is_left_of_a_server_that_was_killed() -> None:
    async with stage() as it:
        pids = {part: it.process(part) for part in PROCESSES}
        memory = shared_memory(it.server.process.pid)
        assert shared_memory(pids[WORKER]) & memory, "the arena is elsewhere"
        it.server.process.kill()
        await until_gone(*pids.values(), within_s=5)
        assert not marked(it.mark) and not holders(memory)


# -------------------------------------------------------------- the worker's end


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_sessions_outlive_a_worker_that_dies_or_hangs(number: signal.Signals) -> None:
    async with stage() as it:
        worker = it.process(WORKER)
        os.kill(it.process("-m workers.preparer"), signal.SIGKILL)  # identities are kept elsewhere
        os.kill(worker, number)
        await it.until_ready_is(503, within_s=8)
        await until_gone(worker, within_s=5)
        assert await it.status("healthz") == 200 and await it.names() == ["aya"]
        await it.until_ready_is(200, within_s=15)
        assert it.process(WORKER) != worker and not it.has("-m workers.preparer")
        before = len(it.client.seen)
        # A held picture comes once a second: so many are new ones.
        await until(lambda: len(it.client.seen) >= before + 15, 8, "an avatar at its rate")
        first = next(index for index, seen in enumerate(it.client.seen) if is_green(seen))
        assert all(map(is_green, it.client.seen[first:])), "the identity was lost"
        assert it.client.pc.connectionState == "connected" and await it.names() == ["aya"]
        assert await it.server.stop() == 0
        assert not marked(it.mark)


async def test_a_worker_that_dies_too_often_ends_the_server_with_the_reason() -> None:
    async with Broker(0, Kind.MOSQUITTO) as broker, listening(broker.address) as listener:
        async with stage("--broker-url", broker.url) as it:
            killed = None
            while it.server.process.returncode is None:
                if found := [pid for pid in it.has(WORKER) if pid != killed]:
                    (killed,) = found
                    os.kill(killed, signal.SIGKILL)
                await asyncio.sleep(0.02)
            assert it.server.process.returncode in (1, 2)
            await until(lambda: not marked(it.mark), 5)
            reason = "worker 0 was lost too often within a minute, last: killed by SIGKILL"
            assert it.server.lines[-1].startswith(f"omokage: {reason}"), it.server.lines[-1]
            assert no_traceback(it.server.lines), "\n".join(it.server.lines)
        await listener.until(lambda it: it.of("status")[-1].said["state"] == "offline")
        phases = [it.said["phase"] for it in listener.of("status")]
        assert "failed" in phases, phases
        assert [it.said for it in listener.of("event") if it.said["message"].startswith(reason)]
        told = [it for it in listener.heard if it.topic.endswith("/session/aya")]
        assert told[-1].payload == b"", "the session's topic was not cleared"
