"""A viewer: a session's packets to a peer that watches."""

from __future__ import annotations

import asyncio
from collections import deque

import av
from aiortc import MediaStreamTrack, RTCRtpTransceiver
from aiortc.mediastreams import MediaStreamError

from stream import rtc
from stream.codecs import Codec
from stream.connection import Connection, StateListener
from stream.encoder import Rendition, Renditions

QUEUE_S = 0.25
QUEUE_PACKETS = 8


class PacketTrack(MediaStreamTrack):
    """A rendition's packets, for an aiortc sender.

    The rendition serves it from the sender's first `recv` on, so that a peer that never connects
    asks nobody for keyframes. Behind by more than a quarter of a second, it skips to the next
    keyframe, and asks for one.
    """

    kind = "video"

    def __init__(self, rendition: Rendition) -> None:
        super().__init__()
        self._rendition = rendition
        self._packets: deque[tuple[float, av.Packet[av.VideoStream]]] = deque()
        self._arrived = asyncio.Event()
        self._attached = False
        self._skipping = True  # up to the next keyframe
        self.skipped = 0
        self.high_water_packets = 0

    async def recv(self) -> av.Packet[av.VideoStream]:
        """The next packet. Raises MediaStreamError after `stop`."""
        if not self._attached and self.readyState == "live":
            self._attached = True
            self._rendition.attach(self)
        elif self._skipping:
            self.request_keyframe()
        while self.readyState == "live":
            if self._packets:
                return self._packets.popleft()[1]
            self._arrived.clear()
            await self._arrived.wait()
        raise MediaStreamError

    def push(self, packet: av.Packet[av.VideoStream], now_s: float) -> None:
        """From the rendition; returns at once."""
        if self._is_overdue(now_s):
            self.skipped += len(self._packets)
            self._packets.clear()
            self._skipping = True
        if self._skipping and not packet.is_keyframe:
            self.skipped += 1
            return
        self._skipping = False
        self._packets.append((now_s, packet))
        self.high_water_packets = max(self.high_water_packets, len(self._packets))
        self._arrived.set()

    def request_keyframe(self) -> None:
        """The viewer's PLI or FIR."""
        if self._attached and self.readyState == "live":
            self._rendition.request_keyframe()

    def stop(self) -> None:
        super().stop()
        self._rendition.detach(self)
        self._packets.clear()
        self._arrived.set()

    def _is_overdue(self, now_s: float) -> bool:
        if not self._packets:
            return False
        return now_s - self._packets[0][0] > QUEUE_S or len(self._packets) >= QUEUE_PACKETS


def send_video(transceiver: RTCRtpTransceiver, renditions: Renditions) -> PacketTrack:
    """Sends a session in the codec that the peer prefers; before the answer is applied."""
    codec = Codec(next(iter(rtc.codecs_of(transceiver).values())))
    track = PacketTrack(renditions.get(codec))
    transceiver.sender.replaceTrack(track)
    rtc.on_keyframe_request(transceiver.sender, track.request_keyframe)
    return track


class Viewer:
    """A peer that watches a session (WHEP, the offer by the viewer)."""

    def __init__(self, renditions: Renditions, on_state: StateListener) -> None:
        self._renditions = renditions
        self._connection = Connection(on_state)
        self._track: PacketTrack | None = None
        self.answer = ""

    @classmethod
    async def open(cls, offer: str, renditions: Renditions, on_state: StateListener) -> Viewer:
        """Answers an offer that `stream.sdp` has checked; `answer` is the SDP.

        Raises OfferUnsupported when the offer cannot be answered, and leaves nothing then.
        """
        viewer = cls(renditions, on_state)
        viewer.answer = await viewer._connection.answer(offer, viewer._prepare)
        return viewer

    @property
    def sent_mark(self) -> int:
        """The most packets that have waited to be sent."""
        return self._track.high_water_packets if self._track is not None else 0

    async def close(self) -> None:
        """Ends it within a second; closing twice is no error."""
        if self._track is not None:
            self._track.stop()
        await self._connection.close()

    def _prepare(self, transceiver: RTCRtpTransceiver) -> None:
        transceiver.direction = "sendonly"
        self._track = send_video(transceiver, self._renditions)
