"""A session's pictures on their way to one peer: encoded packets, never older than they may be."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from stream.allowance import SentRate
from stream.audience import Audience
from stream.encoder import Rendition
from stream.pacing import Pace, pace_of
from stream.resends import Resends
from stream.steady import SteadyTime

QUEUE_S = 0.25
QUEUE_PACKETS = 8


class PacketTrack(MediaStreamTrack):
    """A rendition's packets, for an aiortc sender.

    The rendition serves it from the sender's first `recv` on, so that a peer that never connects
    asks nobody for keyframes. Behind by more than a quarter of a second, it skips to the next
    keyframe, and asks for one.

    What the peer reports goes to the audience, which may move the track to another rendition.
    """

    kind = "video"

    def __init__(self, rendition: Rendition, audience: Audience[Rendition] | None = None) -> None:
        super().__init__()
        self._rendition = rendition
        self._audience = audience
        self._sent = SentRate()
        self.time = SteadyTime(rendition.taken)
        self._resends = Resends()
        self._last_pts = -1
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
            if self._audience is not None:
                self._audience.join(self)
        elif self._skipping:
            self.request_keyframe()
        while self.readyState == "live":
            if self._packets:
                packet = self._packets.popleft()[1]
                self._sent.add(packet.size, time.monotonic())
                self.time.sent(packet.pts or 0, time.monotonic())
                return packet
            self._arrived.clear()
            await self._arrived.wait()
        raise MediaStreamError

    def push(self, packet: av.Packet[av.VideoStream], now_s: float) -> None:
        """From the rendition; returns at once."""
        if self._is_overdue(now_s):
            self.skipped += len(self._packets)
            self._packets.clear()
            self._skipping = True
        assert packet.pts is not None
        # After a move: what was begun before it may be older than what was sent.
        is_late = packet.pts <= self._last_pts
        if self._skipping and (is_late or not packet.is_keyframe):
            self.skipped += 1
            return
        self._skipping = False
        self._last_pts = packet.pts
        self._packets.append((now_s, packet))
        self.high_water_packets = max(self.high_water_packets, len(self._packets))
        self._arrived.set()

    def request_keyframe(self) -> None:
        """The viewer's PLI or FIR."""
        if self._attached and self.readyState == "live":
            self._rendition.request_keyframe()

    def move(self, rendition: Rendition) -> None:
        """Its packets come from this one from the next keyframe on."""
        if rendition is self._rendition or self.readyState != "live":
            return
        self._rendition.detach(self)
        self._rendition = rendition
        self._skipping = True
        rendition.attach(self)

    def estimate(self, bit_rate: int) -> None:
        """The viewer's REMB, bit/s."""
        if self._audience is not None:
            now_s = time.monotonic()
            self._audience.estimate(self, bit_rate, self._sent_of_late(now_s), now_s)

    def loss(self, fraction: float) -> None:
        """Of the viewer's receiver report, 0 to 1."""
        if self._audience is not None:
            now_s = time.monotonic()
            self._audience.loss(self, fraction, self._sent_of_late(now_s), now_s)

    def allows_again(self, sequence: int) -> bool:
        """Whether a packet that the viewer misses is sent again."""
        return self._resends.allows(sequence, self._rendition.bit_rate, time.monotonic())

    def pace_of(self, packets: int) -> Pace | None:
        """How a frame of so many RTP packets leaves."""
        return pace_of(packets, self._rendition.bit_rate, self._rendition.fps)

    def stop(self) -> None:
        super().stop()
        self._rendition.detach(self)
        if self._audience is not None:
            self._audience.leave(self, time.monotonic())
        self._packets.clear()
        self._arrived.set()

    def _sent_of_late(self, now_s: float) -> int:
        """bit/s; what was sent before the rate was lowered tells nothing."""
        return min(self._sent.bit_rate(now_s), self._rendition.bit_rate)

    def _is_overdue(self, now_s: float) -> bool:
        if not self._packets:
            return False
        return now_s - self._packets[0][0] > QUEUE_S or len(self._packets) >= QUEUE_PACKETS
