"""What the server is for, played with real peers: for seconds in the tests, longer by hand.

Each returns what was seen; `check` raises AssertionError for what must never be.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
from listener import Listener, listening
from peers import COLOURS, Client, Performer, Seen
from server import Server, serve

from stream.mqtt import Address

Json = dict[str, Any]
HOLD_S = 0.35  # a held frame may come again after this long: each second, or as a keyframe


def summaries(listener: Listener) -> list[Json]:
    return [it.said for it in listener.of("worker/0/summary")]


def check_laws(said: Json) -> None:
    """The contract's two, in every summary."""
    total = {
        name: said[f"frames_{name}_total"]
        for name in ("arrived", "overwritten", "late", "abandoned", "batched", "failed", "emitted")
    }
    assert total["arrived"] == (
        total["overwritten"]
        + total["late"]
        + total["abandoned"]
        + said["frames_waiting"]
        + total["batched"]
    ), said
    assert total["batched"] == said["frames_in_flight"] + total["failed"] + total["emitted"], said


def check_numbers(seen: Sequence[Seen]) -> None:
    """No number backwards, none twice but the held one."""
    own = [it for it in seen if it.colour is not None]
    for before, after in pairwise(own):
        assert after.number >= before.number, (before, after)
        if after.number == before.number:
            assert after.pts - before.pts >= HOLD_S * 90_000, (before, after)


def mqtt(server: Server) -> Address:
    return Address("127.0.0.1", server.broker_port)


async def session(http: aiohttp.ClientSession, server: Server, name: str) -> Json:
    async with http.get(f"{server.base}/sessions/{name}") as reply:
        found: Json = await reply.json()
        return found


# ------------------------------------------------------------------- isolation


@dataclass(frozen=True)
class Isolation:
    seen: Mapping[str, Sequence[Seen]]  # by colour: what its viewer got
    summaries: Sequence[Json]
    sessions: Mapping[str, Json]  # at the end, sources silent

    def check(self) -> None:
        for colour, seen in self.seen.items():
            colours = Counter(it.colour for it in seen)
            assert set(colours) <= {colour, None}, f"{colour} saw {colours}"
            assert colours[colour] > 0, f"{colour} saw nothing of its own"
            check_numbers(seen)
        for said in self.summaries:
            check_laws(said)
        last = self.summaries[-1]
        for closed_by in ("full", "everyone", "timeout"):
            assert last[f"batches_{closed_by}_total"] > 0, f"no batch closed by {closed_by}"
        assert last["frames_filled_total"] > 0
        assert last["shapes"] == 1
        for colour, facts in self.sessions.items():
            frames = facts["frames"]
            assert frames["waiting"] == frames["in_flight"] == 0, (colour, frames)
            assert facts["frames_shown"] == frames["emitted"] - frames["unsent"], (colour, facts)


async def isolation(seconds: float) -> Isolation:
    """Eight colours at once, of 30 frames/s but one of 7 and one that stalls for a third."""
    flags = (
        "--model", "mirror", "--geometry", "128x128", "--batch", "8", "--max-sessions", "8",
        "--max-wait-ms", "30",
    )  # fmt: skip
    async with serve(*flags) as server, aiohttp.ClientSession() as http:
        async with listening(mqtt(server), "omokage/1/+/worker/#") as listener:
            clients: dict[str, Client] = {}
            cameras: dict[str, Performer] = {}
            began_s = time.monotonic()
            for index, colour in enumerate(COLOURS):
                cameras[colour] = Performer(colour, 7 if index == 1 else 30)
                clients[colour] = Client()
                await clients[colour].publish(http, server.base, cameras[colour], colour)

            def stalled() -> bool:
                return seconds / 3 < time.monotonic() - began_s < seconds * 2 / 3

            cameras["green"].is_silent = stalled
            await asyncio.sleep(began_s + seconds - time.monotonic())
            for camera in cameras.values():
                camera.is_silent = lambda: True
            await asyncio.sleep(2.5)  # the last report of what was in flight
            facts = {colour: await session(http, server, colour) for colour in clients}
            for client in clients.values():
                await client.end(http)
            return Isolation(
                {colour: client.seen for colour, client in clients.items()},
                summaries(listener),
                facts,
            )


# -------------------------------------------------------------------- handover


@dataclass(frozen=True)
class Handover:
    """Of each blue session: what it saw; how many frames outlived their session."""

    blue: Sequence[Sequence[Seen]]
    outlived: int  # their batch was on the device, so they failed or came too late to be sent

    def check(self) -> None:
        for seen in self.blue:
            colours = Counter(it.colour for it in seen)
            assert colours["red"] == 0, f"a blue viewer saw red: {colours}"
            assert colours["blue"] > 0, f"a blue viewer saw nothing: {colours}"
            for it in seen:
                # The avatar has drawn how many frames its state had seen; the camera which this
                # is. A state of somebody else's would have seen more than the camera has sent.
                assert it.colour is None or it.edge is None or it.edge < it.number, it
            assert any(it.edge is not None for it in seen), "no count could be read"
        assert self.outlived > 0, "no frame was in flight at any end"


async def handover(times: int) -> Handover:
    """A red session ends with frames in flight, and a blue one takes its only lane."""
    flags = (
        "--model", "avatars:SlowCounting", "--geometry", "128x128", "--max-sessions", "1",
        "--max-wait-ms", "0",
    )  # fmt: skip
    blue: list[Sequence[Seen]] = []
    async with serve(*flags) as server, aiohttp.ClientSession() as http:
        async with listening(mqtt(server), "omokage/1/+/worker/#") as listener:
            for _ in range(times):
                red, other = Client(), Client()
                # Red begins at a high number, so that its state runs ahead of blue's.
                await red.publish(http, server.base, Performer("red", 60, first=40))
                await _until(lambda red=red: sum(it.colour == "red" for it in red.seen) >= 12)
                async with http.delete(red.location) as reply:
                    assert reply.status == 200
                await other.publish(http, server.base, Performer("blue", 60))
                await _until(lambda it=other: sum(s.colour == "blue" for s in it.seen) >= 3)
                await other.end(http)
                await red.close()
                blue.append(other.seen)
            await asyncio.sleep(1.2)
            for said in summaries(listener):
                check_laws(said)
            last = summaries(listener)[-1]
            return Handover(blue, last["frames_failed_total"] + last["frames_unsent_total"])


async def _until(holds: Any, within_s: float = 10.0) -> None:
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, "it did not come about"
        await asyncio.sleep(0.01)


# -------------------------------------------------------------------- overload


@dataclass(frozen=True)
class Overload:
    step_ms: float
    max_wait_ms: float
    summaries: Sequence[Json]
    emitted: Mapping[str, int]
    queues: Sequence[Json]  # name, high_water, bound
    rss_bytes: Sequence[tuple[float, int]]  # (seconds since the start, all our processes)

    def check(self) -> None:
        """What holds at any length; the figures of time are the caller's."""
        for said in self.summaries:
            check_laws(said)
        mean = sum(self.emitted.values()) / len(self.emitted)
        for name, count in self.emitted.items():
            assert abs(count - mean) <= 0.1 * mean, (name, count, mean)
        assert self.queues
        for queue in self.queues:
            assert queue["high_water"] <= queue["bound"], queue
        last = self.summaries[-1]
        assert last["batches_full_total"] > 0 and last["shapes"] == 1
        dropped = last["frames_late_total"] + last["frames_overwritten_total"]
        assert dropped > 0.1 * last["frames_arrived_total"], "it was no overload"


async def overload(seconds: float) -> Overload:
    """Eight sources that together need exactly twice what the device gives."""
    step_s, batch, max_wait_ms = 0.060, 4, 8.0
    flags = (
        "--model", "avatars:Slow", "--geometry", "128x128", "--batch", str(batch),
        "--max-sessions", "8", "--max-wait-ms", str(max_wait_ms),
    )  # fmt: skip
    fps = 2 * (batch / step_s) / 8
    async with serve(*flags) as server, aiohttp.ClientSession() as http:
        async with listening(mqtt(server), "omokage/1/+/worker/#") as listener:
            clients: dict[str, Client] = {}
            for colour in COLOURS:
                clients[colour] = Client()
                await clients[colour].publish(http, server.base, Performer(colour, fps), colour)
            began_s = time.monotonic()
            base = {name: (await session(http, server, name))["frames"] for name in clients}
            rss: list[tuple[float, int]] = []
            while (at_s := time.monotonic() - began_s) < seconds:
                rss.append((at_s, server.rss_bytes()))
                for client in clients.values():
                    client.seen.clear()
                await asyncio.sleep(min(1.0, max(seconds - at_s, 0)))
            emitted = {
                name: (await session(http, server, name))["frames"]["emitted"]
                - base[name]["emitted"]
                for name in clients
            }
            async with http.get(f"{server.base}/state") as reply:
                queues = (await reply.json())["queues"]
            for client in clients.values():
                await client.end(http)
            return Overload(step_s * 1e3, max_wait_ms, summaries(listener), emitted, queues, rss)


# ------------------------------------------------------------------------ kill


@dataclass(frozen=True)
class Kill:
    """Four sessions whose avatars are negatives, and a worker that is killed inside a batch."""

    seen: Mapping[str, Sequence[Seen]]
    killed_s: float
    ready_s: float  # when the new worker was ready
    states: Mapping[str, str]  # of the connections, at the end
    summaries: Sequence[Json]

    def check(self) -> None:
        for colour, seen in self.seen.items():
            camera = COLOURS[colour]
            negative = (256 - camera[0], 256 - camera[1])
            for it in seen:
                assert not _near(it.chroma, camera), f"{colour}'s camera was seen: {it}"
            new = self.new(colour)
            assert new, f"{colour} saw no new avatar after the restart"
            assert all(_near(it.chroma, negative) for it in new), colour
        assert set(self.states.values()) == {"connected"}, self.states
        for said in self.summaries:
            check_laws(said)
        assert self.summaries[-1]["starts_total"] == 2
        assert self.summaries[-1]["frames_failed_total"] > 0, "nothing was in flight"

    def new(self, colour: str) -> list[Seen]:
        """What it saw once the new worker was ready, but for the picture that was held."""
        return new_since(self.seen[colour], self.ready_s)

    def gap_s(self) -> float:
        """From the new worker's readiness to the last session's next new avatar frame."""
        return max(self.new(colour)[0].at_s for colour in self.seen) - self.ready_s


def new_since(seen: Sequence[Seen], ready_s: float) -> list[Seen]:
    held = [it.number for it in seen if it.at_s <= ready_s][-1]
    return [it for it in seen if it.at_s > ready_s and it.number != held]


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < 16 and abs(one[1] - other[1]) < 16


async def kill(seconds: float) -> Kill:
    flags = (
        "--model", "avatars:SlowInvert", "--geometry", "128x128", "--batch", "4",
        "--max-sessions", "4",
    )  # fmt: skip
    async with serve(*flags) as server, aiohttp.ClientSession() as http:
        async with listening(mqtt(server), "omokage/1/+/#") as listener:
            clients: dict[str, Client] = {}
            for colour in ("red", "blue", "green", "orange"):
                clients[colour] = Client()
                await clients[colour].publish(http, server.base, Performer(colour, 30), colour)
            await _until(
                lambda: all(
                    sum(_near(it.chroma, _negative(name)) for it in client.seen) > 5
                    for name, client in clients.items()
                )
            )
            await asyncio.sleep(1.2)
            os.kill(server.worker_pid(), signal.SIGKILL)
            killed_s = time.monotonic()
            await listener.until(
                lambda it: any(e.said["event_type"] == "worker_restarted" for e in it.of("event")),
                60,
            )
            ready_s = time.monotonic()
            await asyncio.sleep(seconds)
            await _until(lambda: all(new_since(it.seen, ready_s) for it in clients.values()))
            states = {name: it.pc.connectionState for name, it in clients.items()}
            found = Kill(
                {name: list(it.seen) for name, it in clients.items()},
                killed_s,
                ready_s,
                states,
                summaries(listener),
            )
            for client in clients.values():
                await client.end(http)
            return found


def _negative(colour: str) -> tuple[float, float]:
    u, v = COLOURS[colour]
    return 256 - u, 256 - v


# ----------------------------------------------------------------------- churn


@dataclass(frozen=True)
class Churn:
    before: Json  # threads, descriptors, processes, after the first sessions
    after: Json
    rss_bytes: Sequence[int]  # after each session, all our processes

    def check(self) -> None:
        assert self.after == self.before, (self.before, self.after)

    def growth_bytes(self, since: int) -> float:
        """A session, from the session `since` on: of a least-squares line."""
        y = self.rss_bytes[since:]
        n = len(y)
        mean_x, mean_y = (n - 1) / 2, sum(y) / n
        top = sum((x - mean_x) * (value - mean_y) for x, value in enumerate(y))
        return top / sum((x - mean_x) ** 2 for x in range(n))


async def churn(times: int, warm: int) -> Churn:
    """Sessions one after another; each tenth is dropped while it still connects."""
    flags = ("--model", "mirror", "--geometry", "64x64", "--max-sessions", "2")
    async with serve(*flags) as server, aiohttp.ClientSession() as http:
        rss: list[int] = []
        before: Json = {}
        await _fill(server, http)
        for index in range(times):
            client = Client()
            await client.publish(http, server.base, Performer("red", 30, 64, 64))
            if index % 10 == 9:
                async with http.delete(client.location) as reply:
                    assert reply.status == 200
                await client.close()
            else:
                await _until(lambda it=client: len(it.seen) >= 2)
                await client.end(http)
            if index == warm - 1:
                before = await _settled(server, {})
            rss.append(server.rss_bytes())
        return Churn(before, await _settled(server, before), rss)


async def _fill(server: Server, http: aiohttp.ClientSession) -> None:
    """Two at once, in both codecs: the encoders' pool has all its threads from here on."""
    clients = [Client(), Client()]
    for client, codec in zip(clients, ("VP8", "H264"), strict=True):
        await client.publish(http, server.base, Performer("red", 60, 64, 64), codec=codec)
    await _until(lambda: all(len(it.seen) >= 60 for it in clients))
    for client in clients:
        await client.end(http)


async def _settled(server: Server, due: Json) -> Json:
    """What it has once that changes no more, or is what is due."""
    last, end_s = None, time.monotonic() + 12.0
    while time.monotonic() < end_s:
        await asyncio.sleep(2.5)
        held, last = last, _held(server)
        if last == due or (not due and last == held):
            break
    assert last is not None
    return last


def _held(server: Server) -> Json:
    return {
        "threads": server.threads(),
        "descriptors": server.descriptors(),
        "processes": len(server.pids),
        "segments": server.segments(),
    }
