"""Two publishers whose network is cut at one instant: one comes back, one never does."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise

import aiohttp
from media import until
from network import Network
from peers import Client, Performer, Seen
from server import serve

FLAGS = ("--model", "mirror", "--geometry", "128x128", "--max-sessions", "2")
POLL_S = 0.1


@dataclass
class Absences:
    """States are those that were seen, each once; times count from the cut."""

    away: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # ends with "404"
    back_s: float = 0.0  # when the network was back
    live_s: float | None = None  # when the session was live again
    free_s: float | None = None  # when the lane was free
    was_full: bool = False  # a third was refused while both were away
    is_taken: bool = False  # a third was admitted when the lane was free
    same_session: bool = False
    before: list[Seen] = field(default_factory=list)  # what a viewer saw of the one that came back
    meanwhile: list[Seen] = field(default_factory=list)
    after: list[Seen] = field(default_factory=list)

    def check(self) -> None:
        assert self.away == ["live", "holding", "live"], self.away
        assert self.same_session
        assert self.was_full, "a session that is away keeps its lane"
        assert self.gone == ["live", "holding", "404"], self.gone
        assert self.is_taken
        assert len(self.after) > 20
        shown = [it for it in self.before + self.meanwhile + self.after if it.colour is not None]
        assert {it.colour for it in shown} == {"red"}
        assert all(a.number <= b.number for a, b in pairwise(shown))
        assert self.after[-1].number > max(it.number for it in self.meanwhile)


async def absences(away_s: float, give_up_s: float, module: str = "stream") -> Absences:
    """give_up_s: how long a lane is waited for."""
    found = Absences()
    async with (
        serve(*FLAGS, module=module) as server,
        aiohttp.ClientSession() as http,
        Network() as first,
        Network() as second,
    ):
        away, gone, viewer = Client(network=first), Client(network=second), Client()
        third = Client()

        async def state(name: str) -> str:
            async with http.get(f"{server.base}/sessions/{name}") as reply:
                return str((await reply.json())["state"]) if reply.status == 200 else "404"

        async def note() -> None:
            for name, states in (("away", found.away), ("gone", found.gone)):
                now = await state(name)
                if states[-1:] != [now]:
                    states.append(now)

        async def admits() -> bool:
            try:
                await third.publish(http, server.base, Performer("blue", 10), "third", back=False)
            except RuntimeError:
                return False
            return True

        async def is_live(name: str) -> bool:
            return await state(name) == "live"

        async def until_seen(seen: int) -> None:
            await until(lambda: len(viewer.seen) >= seen, 15)

        try:
            await away.publish(http, server.base, Performer("red", 15), "away")
            await gone.publish(http, server.base, Performer("green", 15), "gone")
            await viewer.watch(http, server.base, "away")
            await until_seen(10)
            async with asyncio.timeout(10):
                while not (await is_live("away") and await is_live("gone")):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
            await note()
            found.before = list(viewer.seen)
            cut_s = time.monotonic()
            first.is_cut = second.is_cut = True
            await asyncio.sleep(0.5)  # what was on its way has been shown
            known = len(viewer.seen)
            while time.monotonic() < cut_s + away_s:
                await note()
                await asyncio.sleep(POLL_S)
            found.was_full = not await admits()
            await third.close()
            third = Client()
            found.meanwhile = viewer.seen[known:]
            known = len(viewer.seen)
            first.is_cut = False
            found.back_s = time.monotonic() - cut_s
            while found.gone[-1] != "404" and time.monotonic() < cut_s + give_up_s:
                await note()
                if found.live_s is None and found.away[-1] == "live":
                    found.live_s = time.monotonic() - cut_s
                await asyncio.sleep(POLL_S)
            if found.gone[-1] == "404":
                found.free_s = time.monotonic() - cut_s
            found.is_taken = await admits()
            await until_seen(known + 21)
            found.after = viewer.seen[known:]
            found.same_session = away.pc.connectionState == "connected"
            found.same_session &= await away.end(http) == 200
        finally:
            await asyncio.gather(*(it.close() for it in (viewer, away, gone, third)))
    return found
