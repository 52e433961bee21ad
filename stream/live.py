"""A session's moving parts: its source, its renditions, and who watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from stream.audio import QUEUE_PACKETS as AUDIO_PACKETS
from stream.audio import Sound
from stream.control_channel import ControlChannel
from stream.controls import Controls
from stream.decoder import BACKLOG_FRAMES
from stream.encoder import Renditions
from stream.feed import MAX_CLAIMED
from stream.lanes import Tenancy
from stream.network import Network
from stream.newest import Newest
from stream.session import Session
from stream.signalling import QueueMark
from stream.sinks.track import QUEUE_PACKETS
from stream.sinks.viewer import Viewer
from stream.sources.rtsp import RtspSource
from stream.sources.webrtc import WebRtcSource
from workers.geometry import Geometry

CONNECT_S = 15.0  # for a viewer, from its offer on


class Closable(Protocol):
    async def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Watcher:
    """A viewer, who may end itself by its secret."""

    secret: str
    viewer: Viewer | None
    joined_s: float  # CLOCK_MONOTONIC
    is_connected: bool = False

    def is_overdue(self, now_s: float) -> bool:
        return not self.is_connected and now_s - self.joined_s > CONNECT_S


class LiveSession:
    """From admission to the last packet. Belongs to the event loop."""

    def __init__(
        self,
        session: Session,
        tenancy: Tenancy,
        geometry: Geometry,
        encoders: ThreadPoolExecutor,
        network: Network,
        controls: Controls,
    ) -> None:
        self._network = network
        self.controls = controls
        self.channel = ControlChannel(controls)
        self.portraits = Newest()
        self.session = session
        self.tenancy = tenancy
        self.renditions = Renditions(geometry, tenancy.feed, encoders)
        self.sound = Sound()
        self.renditions.on_picture = self.sound.saw_picture
        self.source: WebRtcSource | RtspSource | None = None
        self.watchers: dict[str, Watcher] = {}
        self.since = datetime.now(UTC)
        self._seen_s: float | None = None

    async def publish(self, offer: str, on_state: Callable[[str], None]) -> str:
        """The answer's SDP. Raises OfferError, and leaves nothing then."""
        source = await WebRtcSource.open(
            offer,
            self.tenancy.inbox,
            self.renditions,
            on_state,
            self.sound,
            self._network,
            self.channel.opened,
        )
        self.source = source
        return source.answer

    def play(self, url: str, on_camera: Callable[[str | None], None]) -> None:
        """Reads an RTSP camera from now on. Raises SourceError for what is no such URL."""
        source = RtspSource(url, self.tenancy.inbox, on_camera)
        self.source = source
        source.start()

    def look(self, now_s: float) -> bool:
        """What the source and the clock did to the session's life; True: its state changed."""
        arrival_s = self.tenancy.inbox.last_arrival_s
        changed = False
        if arrival_s is not None and arrival_s != self._seen_s:
            self._seen_s = arrival_s
            changed = self.session.saw_frame(arrival_s)
        changed = self.session.check(now_s) or changed
        if changed:
            self.since = datetime.now(UTC)
        return changed

    def marks(self) -> tuple[QueueMark, ...]:
        """How full its queues have been."""
        sent = [it.viewer.sent_mark for it in self.watchers.values() if it.viewer]
        decoder = 0
        if isinstance(self.source, WebRtcSource):
            decoder = self.source.decoder_mark
            sent.append(self.source.sent_mark)
        return (
            QueueMark("decoder", decoder, BACKLOG_FRAMES),
            QueueMark("outbox", self.tenancy.feed.high_water_claimed, MAX_CLAIMED),
            QueueMark("packets", max(sent, default=0), QUEUE_PACKETS),
            QueueMark("audio", self.sound.high_water_packets, AUDIO_PACKETS),
        )

    async def close(self) -> None:
        """Ends all connections at once; within a second or so, the loop free meanwhile."""
        self.sound.close()
        parts: list[Closable] = [it.viewer for it in self.watchers.values() if it.viewer]
        self.watchers.clear()
        match self.source:
            case WebRtcSource() as source:
                parts.append(source)
            case RtspSource() as camera:
                camera.stop()
        # First the tracks stop, so that nobody waits for the next frame; then the encoders.
        await asyncio.gather(self.renditions.close(), *(part.close() for part in parts))
