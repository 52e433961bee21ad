"""The real doors, signalling and page on a stage of one trick: each camera is its own avatar.

Run it by hand to work on the page: `python tests/page_server.py 8321`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay

from stream.api import build_web_app, listen
from stream.control_channel import ControlChannel
from stream.controls import Controls
from stream.settings import Settings
from stream.signalling import NodeState, Published, SessionView, Watching
from workers.errors import (
    NoSuchPortrait,
    NoSuchSession,
    OfferUnsupported,
    PortraitRefused,
    ServerFull,
)
from workers.messages import ControlRange
from workers.picture import read_picture, write_webp

PICTURES = {it.stem: it for it in sorted((Path(__file__).parent / "pictures").glob("*.png"))}
RANGES = {
    "expression": ControlRange(0.0, 2.0, 1.0),
    "head-motion": ControlRange(0.0, 2.0, 1.0),
    "neutral": ControlRange(0.0, 3.0, 0.0),
}

LIVE = SessionView(
    name="",
    state="live",
    reason=None,
    since="2026-11-24T11:58:02Z",
    source="webrtc",
    avatar="toon",
    viewers=0,
    in_fps=29.9,
    out_fps=29.8,
    age_ms=17.4,
    fill_ratio=0.25,
    memory_bytes=412_300_000,
    memory_kind="process",
    device="cpu",
    batch_size=4,
)


@dataclass(slots=True)
class Performer:
    """A session: its peer, the camera that it sends, its viewers by secret."""

    peer: RTCPeerConnection
    camera: MediaStreamTrack
    controls: Controls
    viewers: dict[str, RTCPeerConnection] = field(default_factory=dict)

    async def close(self) -> None:
        for peer in (self.peer, *self.viewers.values()):
            await peer.close()


class EchoStage:
    """Gives each camera back, and can be warming, full or deaf on request."""

    def __init__(self) -> None:
        self.port = 0
        self.reason: str | None = None  # why it is not ready
        self.is_full = False
        self.is_deaf = False  # answers an offer, then never a packet
        self.refusal: str | None = None
        self.facts = LIVE
        self.performers: dict[str, Performer] = {}
        self.ended: list[str] = []  # secrets
        self.ranges: Mapping[str, ControlRange] = {}
        self.pictures: Mapping[str, Path] = {}
        self.takes_portraits = False
        self.is_faceless = False  # finds no face in a picture
        self.takes_channels = True
        self.worn: list[str | bytes | None] = []
        self._relay = MediaRelay()
        self._count = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def ready(self) -> bool:
        return self.reason is None

    async def publish(self, name: str | None, offer: str, portrait: str | None = None) -> Published:
        if self.is_full:
            raise ServerFull("all 16 places are taken: wait, or start with --max-sessions 17")
        if self.refusal:
            raise OfferUnsupported(self.refusal)
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        camera = peer.getReceivers()[0].track
        peer.addTrack(self._relay.subscribe(camera, buffered=False))
        self._count += 1
        name = name or f"aya-{self._count}"
        controls = Controls(self.ranges)
        if self.takes_channels:
            peer.on("datachannel", ControlChannel(controls).opened)
        self.performers[name] = Performer(peer, camera, controls)
        self.worn.append(portrait)
        return Published(await self._answer(peer), f"secret-{name}", name)

    async def watch(self, name: str, offer: str) -> Watching:
        performer = self.performers.get(name)
        if performer is None:
            raise NoSuchSession(f"no session is named {name}")
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTrack(self._relay.subscribe(performer.camera, buffered=False))
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        self._count += 1
        secret = f"viewer-{self._count}"
        performer.viewers[secret] = peer
        return Watching(await self._answer(peer), secret)

    async def _answer(self, peer: RTCPeerConnection) -> str:
        await peer.setLocalDescription(await peer.createAnswer())
        sdp: str = peer.localDescription.sdp
        if self.is_deaf:
            await peer.close()
        return sdp

    async def end(self, secret: str) -> bool:
        self.ended.append(secret)
        if performer := self.performers.pop(secret.removeprefix("secret-"), None):
            await performer.close()
            return True
        for performer in self.performers.values():
            if viewer := performer.viewers.pop(secret, None):
                await viewer.close()
                return True
        return False

    def portraits(self) -> Sequence[str]:
        return tuple(self.pictures)

    async def portrait_file(self, name: str) -> bytes:
        if name not in self.pictures:
            raise NoSuchPortrait("no portrait has this name")
        return write_webp(read_picture(self.pictures[name].read_bytes()))

    async def wear(self, secret: str, portrait: Callable[[], Awaitable[bytes | str]]) -> None:
        if self.controls(secret) is None:
            raise NoSuchSession("no session is here")
        asked = await portrait()
        if isinstance(asked, bytes):
            read_picture(asked)
            if self.is_faceless:
                raise PortraitRefused("no face was found in the portrait: send one that shows one")
        self.worn.append(asked)

    def controls(self, secret: str) -> Controls | None:
        performer = self.performers.get(secret.removeprefix("secret-"))
        return None if performer is None else performer.controls

    def sessions(self) -> Sequence[SessionView]:
        return [view for name in self.performers if (view := self.session(name))]

    def session(self, name: str) -> SessionView | None:
        performer = self.performers.get(name)
        if performer is None:
            return None
        return replace(self.facts, name=name, viewers=len(performer.viewers))

    def state(self) -> NodeState:
        phase = "serving" if self.ready else "warming"
        state = NodeState("a", "7f3a9c2e", "0", phase, "toon", len(self.performers), 16, 0)
        return replace(state, takes_portraits=self.takes_portraits, controls=self.ranges)

    async def close(self) -> None:
        while self.performers:
            await self.performers.popitem()[1].close()


@asynccontextmanager
async def page_server(port: int = 0, **settings: Any) -> AsyncIterator[EchoStage]:
    """The page on loopback, by the settings given, until the block ends.

    `settings` are those of `stream.settings.Settings`, whatever their types.
    """
    stage = EchoStage()
    app = build_web_app(Settings(**settings), stage)
    try:
        async with listen(app, "127.0.0.1", port) as stage.port:
            yield stage
    finally:
        await stage.close()


async def _serve(port: int) -> None:
    async with page_server(port) as stage:
        print(stage.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
