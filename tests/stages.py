"""A small stage without peers, and the doors in front of it, for tests of what HTTP says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
from aiortc import RTCIceCandidate

from stream.api import build_web_app, listen
from stream.controls import Controls
from stream.settings import Settings
from stream.signalling import NodeState, Published, SessionView, Watching
from workers.errors import NameTaken, NoSuchPortrait, NoSuchSession, ServerFull
from workers.messages import ControlRange

UFRAG = "Ab1/"
RANGES = {"strength": ControlRange(0.0, 2.0, 1.0), "neutral": ControlRange(0.0, 1000.0, 0.0)}
ANSWER = "v=0\r\ns=answer\r\n"


@dataclass
class MemoryStage:
    """Sessions and viewers as entries of a table."""

    limit: int = 2
    ready: bool = True
    reason: str | None = None
    raises: Exception | None = None
    patience_s: float = 0
    by_secret: dict[str, str] = field(default_factory=dict)
    viewers: dict[str, str] = field(default_factory=dict)
    made: int = 0
    trickled: list[str] = field(default_factory=list)
    worn: dict[str, bytes | str | None] = field(default_factory=dict)
    all_controls: dict[str, Controls] = field(default_factory=dict)

    async def publish(self, name: str | None, offer: str, portrait: str | None = None) -> Published:
        await asyncio.sleep(self.patience_s)
        if self.raises:
            raise self.raises
        if len(self.by_secret) == self.limit:
            raise ServerFull(f"all {self.limit} lanes are taken: try again in a moment")
        name = name or f"made-up-{self.made}"
        if name in self.by_secret.values():
            raise NameTaken(f"{name} is live: choose another name")
        self.made += 1
        secret = f"secret-{self.made}"
        self.by_secret[secret] = name
        self.worn[secret] = portrait
        self.all_controls[secret] = Controls(RANGES)
        return Published(ANSWER, secret, name)

    async def watch(self, name: str, offer: str) -> Watching:
        if name not in self.by_secret.values():
            raise NoSuchSession(f"no session is called {name}")
        self.made += 1
        secret = f"viewer-{self.made}"
        self.viewers[secret] = name
        return Watching(ANSWER, secret)

    async def end(self, secret: str) -> bool:
        ended = self.by_secret.pop(secret, None) or self.viewers.pop(secret, None)
        return ended is not None

    def ice_ufrags(self, secret: str) -> frozenset[str] | None:
        return frozenset({UFRAG}) if secret in self.by_secret | self.viewers else None

    async def trickle(self, secret: str, candidates: Sequence[RTCIceCandidate]) -> None:
        if self.raises:
            raise self.raises
        self.trickled += [f"{it.ip}:{it.port}" for it in candidates]

    def portraits(self) -> list[str]:
        return ["rose", "sky"]

    async def portrait_file(self, name: str) -> bytes:
        if name not in self.portraits():
            raise NoSuchPortrait("no portrait has this name")
        return b"RIFF a picture of " + name.encode()

    async def wear(self, secret: str, portrait: Callable[[], Awaitable[bytes | str]]) -> None:
        if secret not in self.by_secret:
            raise NoSuchSession("no session is here")
        asked = await portrait()
        if self.raises:
            raise self.raises
        self.worn[secret] = asked

    def controls(self, secret: str) -> Controls | None:
        return self.all_controls.get(secret) if secret in self.by_secret else None

    def sessions(self) -> list[SessionView]:
        return [view for name in self.by_secret.values() if (view := self.session(name))]

    def session(self, name: str) -> SessionView | None:
        if name not in self.by_secret.values():
            return None
        viewers = list(self.viewers.values()).count(name)
        view = SessionView(name, "live", None, "2026-11-24T12:00:00Z", "webrtc", "toon", viewers)
        return replace(view, in_fps=30.0, out_fps=29.5, age_ms=41.0, memory_bytes=10_000_000)

    def state(self) -> NodeState:
        return NodeState(
            node="a",
            boot_id="7f3a9c2e",
            version="0.1.0",
            phase="serving",
            model="toon",
            sessions=len(self.by_secret),
            sessions_limit=self.limit,
            viewers=len(self.viewers),
            batch_sizes=(1,),
            busy_ratio=0.5,
            takes_portraits=True,
            controls=RANGES,
        )


@dataclass(frozen=True, slots=True)
class House:
    stage: MemoryStage
    port: int
    client: aiohttp.ClientSession


@asynccontextmanager
async def house(
    settings: Settings | None = None, stage: MemoryStage | None = None
) -> AsyncIterator[House]:
    """The whole web app on a free port of 127.0.0.1, and a client of it."""
    stage = stage or MemoryStage()
    app = build_web_app(settings or Settings(), stage)
    async with (
        listen(app, "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        yield House(stage, port, client)


async def raw(port: int, request: str) -> str:
    """The whole response to a request that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.replace("\n", "\r\n").encode())
        async with asyncio.timeout(5):
            return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()
