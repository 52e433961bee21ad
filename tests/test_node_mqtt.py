"""What a live server says over MQTT, and that no broker's trouble reaches a frame.

OMOKAGE_STOP_S: for how long the broker is stopped; 5 s by default, 30 for the long run.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from listener import Listener, listening
from peers import Client, Performer
from processes import only_child, until
from server import Server, children, command_of, serve
from wire import check

from stream.broker import HOST, Broker, Kind
from stream.mqtt import KEEPALIVE_S, Address

STOP_S = float(os.environ.get("OMOKAGE_STOP_S", "5"))
FLAGS = ("--model", "mirror", "--geometry", "64x64", "--max-sessions", "4", "--node", "a")
FPS = 20.0
Json = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    server: Server
    http: aiohttp.ClientSession
    address: Address
    broker_pid: int | None  # of a mosquitto of its own

    async def publish(self, name: str) -> tuple[Client, Performer]:
        """A session that gets its avatar back."""
        client, camera = Client(), Performer("red", FPS, 64, 64)
        await client.publish(self.http, self.server.base, camera, name)
        await until(lambda: sum(it.colour == "red" for it in client.seen) >= 5, what="an avatar")
        return client, camera

    def embedded_pid(self) -> int:
        """The embedded broker's."""
        pids = children(self.server.process.pid)
        (found,) = [it for it in pids if re.match(r"\S*mosquitto -c", command_of(it))]
        return found


@asynccontextmanager
async def stage(where: str, *flags: str) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        words, address, pid = [*FLAGS, *flags], None, None
        if where == "separate":
            broker = await stack.enter_async_context(Broker(0, Kind.MOSQUITTO))
            assert broker.pid is not None
            pid, address = only_child(broker.pid), broker.address
            words += ["--broker-url", broker.url]
        server = await stack.enter_async_context(serve(*words))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Stage(server, http, address or Address(HOST, server.broker_port), pid)


def check_all(listener: Listener) -> None:
    """All that was heard keeps the contract: the schemas, the sizes, both laws, one boot."""
    said = [check(it.topic, it.payload) for it in listener.heard if it.payload]
    assert len({it["boot_id"] for it in said}) == 1


def check_events(listener: Listener) -> None:
    """In order and without a gap; what came twice came under the number that it had."""
    events = [it.said for it in listener.of("event")]
    texts: dict[int, str] = {}
    for it in events:
        assert texts.setdefault(it["seq"], it["message"]) == it["message"]
    firsts = list(texts)
    assert firsts == list(range(firsts[0], firsts[0] + len(firsts))), firsts


def states(listener: Listener, name: str) -> list[str]:
    """A session's, each as often as it was entered."""
    said = [it.said["state"] for it in listener.of(f"session/{name}")]
    return [now for before, now in pairwise([None, *said]) if now != before]


def last_status(listener: Listener) -> tuple[str, str | None]:
    heard = listener.of("status")
    return (heard[-1].said["state"], heard[-1].said["reason"]) if heard else ("not heard", None)


# ----------------------------------------------------------------- every topic


@pytest.mark.parametrize("where", ["embedded", "separate"])
async def test_a_subscriber_hears_every_topic_of_a_live_session_and_the_end(where: str) -> None:
    async with stage(where, "--batch-telemetry") as it, listening(it.address) as listener:
        client, camera = await it.publish("aya")
        camera.is_silent = lambda: True
        await listener.until(lambda heard: states(heard, "aya")[-1:] == ["holding"])
        camera.is_silent = lambda: False
        await listener.until(lambda heard: states(heard, "aya")[-1:] == ["live"])
        await asyncio.sleep(1.1)  # a summary with the session in it
        assert await client.end(it.http) == 200
        await listener.until(lambda heard: ended(heard, "aya"))
        assert states(listener, "aya") == ["joining", "live", "holding", "live", "ended"]

        async with listening(it.address) as late:  # what is kept is there, and no session
            await late.until(lambda heard: heard.of("status") and heard.of("worker/0/summary"))
            kept = {heard.topic.removeprefix("omokage/1/a/") for heard in late.heard}
        assert {"status", "info", "overview", "worker/0/memory"} <= kept
        assert not [topic for topic in kept if topic.startswith("session/")]

        assert await it.server.stop() == 0
        await listener.until(lambda heard: last_status(heard) == ("offline", "stopped"))
        assert {heard.topic.removeprefix("omokage/1/a/") for heard in listener.heard} == {
            "status", "info", "overview", "event", "worker/0/memory", "worker/0/summary",
            "worker/0/batch", "session/aya",
        }  # fmt: skip
        check_all(listener)
        check_events(listener)
        told = [heard.said["event_type"] for heard in listener.of("event")]
        session = ["session_started", "session_stalled", "session_resumed", "session_ended"]
        assert [event for event in told if event.startswith("session_")] == session
        assert told[-1] == "node_draining"
        assert listener.of("worker/0/summary")[-1].said["frames_emitted_total"] > FPS


def ended(listener: Listener, name: str) -> bool:
    """It was said to be over, and then its kept word was cleared."""
    told = [it for it in listener.heard if it.topic.endswith(f"/session/{name}")]
    return len(told) > 1 and told[-1].payload == b"" and told[-2].said["state"] == "ended"


# ------------------------------------------------------------- a broker's trouble


@dataclass
class Pace:
    """How a viewer's frames came while something else happened."""

    client: Client
    began_s: float

    def fps(self) -> float:
        return len(self._times()) / (time.monotonic() - self.began_s)

    def longest_gap_s(self) -> float:
        times = [self.began_s, *self._times(), time.monotonic()]
        return max(later - before for before, later in pairwise(times))

    def _times(self) -> list[float]:
        return [it.at_s for it in self.client.seen if it.at_s >= self.began_s]


def check_pace(before_fps: float, during_fps: float, gap_s: float) -> None:
    """Who waits for a broker that is stopped or gone waits for seconds: more than noise explains.

    A held picture comes once a second.
    """
    assert before_fps > 0.3 * FPS and during_fps >= 0.6 * before_fps, (before_fps, during_fps)
    assert gap_s < 2.0, gap_s


async def test_a_broker_that_stops_changes_no_frame_and_hears_all_events_later() -> None:
    async with stage("separate") as it, listening(it.address) as listener:
        assert it.broker_pid is not None
        client, _ = await it.publish("aya")
        pace = Pace(client, time.monotonic())
        await asyncio.sleep(min(STOP_S, 3.0))
        before_fps = pace.fps()

        os.kill(it.broker_pid, signal.SIGSTOP)
        try:
            pace = Pace(client, time.monotonic())
            await asyncio.sleep(0.5)
            other, _ = await it.publish("ren")  # events that it must wait for
            assert await other.end(it.http) == 200
            await asyncio.sleep(pace.began_s + STOP_S - time.monotonic())
            during_fps, gap_s = pace.fps(), pace.longest_gap_s()
        finally:
            os.kill(it.broker_pid, signal.SIGCONT)
        check_pace(before_fps, during_fps, gap_s)

        seq = listener.of("worker/0/summary")[-1].said["seq"]
        await listener.until(  # telemetry goes on
            lambda heard: (
                heard.of("worker/0/summary")[-1].said["seq"] > seq + 1
                and any("ren ended" in event.said["message"] for event in heard.of("event"))
                and last_status(heard) == ("online", None)
            ),
            15,
        )
        connection = listener.of("status")[-1].said["connection"]
        if connection > 1:  # the outage is told behind the events that waited for its end
            await listener.until(
                lambda heard: any(
                    event.said["event_type"] == "telemetry_gap" for event in heard.of("event")
                )
            )
        gaps = [it for it in listener.of("event") if it.said["event_type"] == "telemetry_gap"]
        assert len(gaps) == (1 if connection > 1 else 0), (connection, gaps)
        assert all(it.said["data"]["events_lost"] == 0 for it in gaps)
        check_all(listener)
        check_events(listener)

        # And the end that nobody can announce: the broker tells it.
        it.server.process.kill()
        killed_s = time.monotonic()
        await listener.until(
            lambda heard: last_status(heard) == ("offline", "lost"), 1.5 * KEEPALIVE_S
        )
        assert time.monotonic() - killed_s < 1.5 * KEEPALIVE_S
        assert listener.of("status")[-1].said["connection"] == connection
        await client.close()


async def test_an_embedded_broker_that_is_killed_comes_back_and_no_frame_is_missed() -> None:
    async with stage("embedded") as it:
        client, _ = await it.publish("aya")
        pace = Pace(client, time.monotonic())
        await asyncio.sleep(2)
        before_fps, pid = pace.fps(), it.embedded_pid()
        pace = Pace(client, time.monotonic())
        os.kill(pid, signal.SIGKILL)
        await it.server.until_line("broker ended, starting it again")
        await it.server.until_line("telemetry waits for its broker")
        connections = "telemetry connected"
        await until(lambda: sum(connections in line for line in it.server.lines) == 2, 12)
        assert it.embedded_pid() != pid
        async with listening(it.address) as listener:  # it knows again what is kept
            await listener.until(
                lambda heard: (
                    heard.of("info")
                    and heard.of("session/aya")
                    and heard.of("worker/0/memory")
                    and last_status(heard) == ("online", None)
                )
            )
        check_all(listener)
        assert states(listener, "aya") == ["live"]
        fps, gap_s = pace.fps(), pace.longest_gap_s()
        check_pace(before_fps, fps, gap_s)
        await client.close()
