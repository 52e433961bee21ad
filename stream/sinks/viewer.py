"""A viewer: a session's packets to a peer that watches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import av
from aiortc import MediaStreamTrack, RTCIceCandidate, RTCRtpTransceiver
from aiortc.mediastreams import MediaStreamError

from stream import rtc
from stream.allowance import SentRate
from stream.audience import Audience
from stream.audio import AudioTrack, Sound
from stream.codecs import Codec
from stream.connection import Connection, StateListener
from stream.encoder import Rendition, Renditions
from stream.network import ANYWHERE, Network
from stream.pacing import Pace, pace_of
from stream.resends import Resends
from stream.steady import SteadyTime
from stream.timestamps import WIRE_HZ

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
        self.time = SteadyTime(WIRE_HZ)
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


def send_video(transceiver: RTCRtpTransceiver, renditions: Renditions) -> PacketTrack:
    """Sends a session in the codec that the peer prefers; before the answer is applied."""
    codec = Codec(next(iter(rtc.codecs_of(transceiver).values())))
    track = PacketTrack(renditions.get(codec), renditions.audience(codec))
    transceiver.sender.replaceTrack(track)
    rtc.on_keyframe_request(transceiver.sender, track.request_keyframe)
    rtc.steady_reports(transceiver.sender, track.time)
    rtc.on_network_report(transceiver.sender, track.estimate, track.loss)
    rtc.on_retransmission(transceiver.sender, track.allows_again)
    rtc.pace(transceiver.sender, track.pace_of)
    return track


def send_audio(transceiver: RTCRtpTransceiver, sound: Sound) -> AudioTrack:
    """Sends a session's sound; before the answer is applied."""
    track = AudioTrack(sound)
    transceiver.sender.replaceTrack(track)
    rtc.pass_opus(transceiver.sender)
    rtc.steady_reports(transceiver.sender, track.time)
    return track


class Viewer:
    """A peer that watches a session (WHEP, the offer by the viewer).

    It hears the session, too, where its offer has an audio section and the session has sound.
    """

    def __init__(
        self,
        renditions: Renditions,
        on_state: StateListener,
        sound: Sound | None = None,
        network: Network = ANYWHERE,
    ) -> None:
        self._renditions = renditions
        self._sound = sound
        self._connection = Connection(on_state, network)
        self._track: PacketTrack | None = None
        self._voice: AudioTrack | None = None
        self.answer = ""

    @classmethod
    async def open(
        cls,
        offer: str,
        renditions: Renditions,
        on_state: StateListener,
        sound: Sound | None = None,
        network: Network = ANYWHERE,
    ) -> Viewer:
        """Answers an offer that `stream.sdp` has checked; `answer` is the SDP.

        Raises OfferUnsupported when the offer cannot be answered, and leaves nothing then.
        """
        viewer = cls(renditions, on_state, sound, network)
        viewer.answer = await viewer._connection.answer(
            offer, viewer._prepare, viewer._prepare_audio
        )
        return viewer

    @property
    def sent_mark(self) -> int:
        """The most packets that have waited to be sent."""
        return self._track.high_water_packets if self._track is not None else 0

    @property
    def ufrags(self) -> frozenset[str]:
        """The peer's, of its offer."""
        return self._connection.ufrags

    async def trickle(self, candidates: Sequence[RTCIceCandidate]) -> None:
        """More of the peer's candidates. Raises OfferError for too many."""
        await self._connection.trickle(candidates)

    async def close(self) -> None:
        """Ends it within a second; closing twice is no error."""
        for track in (self._track, self._voice):
            if track is not None:
                track.stop()
        await self._connection.close()

    def _prepare(self, transceiver: RTCRtpTransceiver) -> None:
        transceiver.direction = "sendonly"
        self._track = send_video(transceiver, self._renditions)

    def _prepare_audio(self, transceiver: RTCRtpTransceiver) -> None:
        if self._sound is not None and self._sound.is_on and rtc.peer_receives(transceiver):
            transceiver.direction = "sendonly"
            self._voice = send_audio(transceiver, self._sound)
