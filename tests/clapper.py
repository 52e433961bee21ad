"""A flash and a beep each second, and how far apart a viewer would play them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCRtpReceiver, RTCRtpTransceiver
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket
from numpy.typing import NDArray
from peers import CODE_BITS, Client, paint
from voices import listen

from stream.audio import OPUS_HZ, OpusPacket
from stream.timestamps import WIRE_HZ

FPS = 30
FLASH_FRAMES = 3
BEEP_S = 0.1
SAMPLES = OPUS_HZ // 50
LOUD = 0.2  # of full scale
QUIET_S = 0.3  # before a beep begins


@dataclass
class Take:
    """The clock that a flash and its beep have in common; it starts with the first of them."""

    start_s: float | None = None

    def passed_s(self) -> float:
        self.start_s = self.start_s or time.monotonic()
        return time.monotonic() - self.start_s


class Flash(MediaStreamTrack):
    """Numbered blue frames; the first few of each second are yellow."""

    kind = "video"

    def __init__(self, take: Take) -> None:
        super().__init__()
        self._take = take
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        number = self._number = max(self._number + 1, int(self._take.passed_s() * FPS))
        await asyncio.sleep(max(number / FPS - self._take.passed_s(), 0))
        colour = "yellow" if number % FPS < FLASH_FRAMES else "blue"
        frame = paint(colour, number % (1 << CODE_BITS))
        frame.pts, frame.time_base = number * WIRE_HZ // FPS, Fraction(1, WIRE_HZ)
        return frame


class Beep(MediaStreamTrack):
    """Silence; each second begins with a tone. When late it leaves nothing out, as a microphone."""

    kind = "audio"

    def __init__(self, take: Take) -> None:
        super().__init__()
        self._take = take
        self._number = -1

    async def recv(self) -> av.AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        number = self._number = self._number + 1
        await asyncio.sleep(max(number / 50 - self._take.passed_s(), 0))
        at_s = (number * SAMPLES + np.arange(SAMPLES)) / OPUS_HZ
        tone = np.where(at_s % 1 < BEEP_S, np.sin(2 * np.pi * 1000 * at_s), 0.0)
        frame = av.AudioFrame.from_ndarray(
            (tone * 16_000).astype(np.int16)[None, :], format="s16", layout="mono"
        )
        frame.sample_rate = OPUS_HZ
        frame.pts, frame.time_base = number * SAMPLES, Fraction(1, OPUS_HZ)
        return frame


@dataclass
class Reports:
    """The sender reports of one stream: which RTP time was which wall time."""

    hertz: int
    pairs: list[tuple[int, float]] = field(default_factory=list)  # RTP, NTP seconds

    def keep(self, receiver: RTCRtpReceiver) -> None:
        """Those that come from now on."""
        real = receiver._handle_rtcp_packet

        async def handle(packet: object) -> None:
            if isinstance(packet, RtcpSrPacket) and packet.sender_info.ntp_timestamp:
                info = packet.sender_info
                self.pairs.append((info.rtp_timestamp, info.ntp_timestamp / 2**32))
            await real(packet)  # type: ignore[arg-type]  # whatever it got

        receiver._handle_rtcp_packet = handle  # type: ignore[method-assign]

    def wall_s(self, rtp: int) -> float:
        """By the one report that is nearest (RFC 3550, section 6.4.1); none is smoothed."""
        away, (_, ntp_s) = min(
            ((signed(rtp - at), (at, ntp)) for at, ntp in self.pairs), key=lambda it: abs(it[0])
        )
        return ntp_s + away / self.hertz


def signed(difference: int) -> int:
    return (difference + 2**31) % 2**32 - 2**31


@dataclass
class Audience:
    """A viewer who notes what it would need to play in step."""

    client: Client = field(default_factory=Client)
    heard: list[OpusPacket] = field(default_factory=list)
    sound: Reports = field(default_factory=lambda: Reports(OPUS_HZ))
    picture: Reports = field(default_factory=lambda: Reports(WIRE_HZ))
    _video: RTCRtpReceiver | None = None

    def prepare(self) -> None:
        """Before it watches, by `client.watch`."""
        audio: RTCRtpTransceiver = self.client.pc.addTransceiver("audio", "recvonly")
        self.heard = listen(audio)
        self.sound.keep(audio.receiver)

    def keep_reports(self) -> None:
        """Once it watches."""
        (video,) = [it for it in self.client.pc.getTransceivers() if it.kind == "video"]
        self._video = video.receiver
        self.picture.keep(video.receiver)

    def flashes(self) -> list[float]:
        """The wall time of each second's first frame, from whichever of its flash came first."""
        assert self._video is not None
        origin: int = self._video._RTCRtpReceiver__timestamp_mapper._origin  # type: ignore[attr-defined]
        found: dict[int, float] = {}
        for seen in self.client.seen:
            second, frame = divmod(seen.number, FPS)
            if seen.colour == "yellow" and frame < FLASH_FRAMES and second not in found:
                found[second] = self.picture.wall_s(seen.pts + origin) - frame / FPS
        return sorted(found.values())

    def beeps(self) -> list[float]:
        """The wall time at which each begins."""
        loud = [
            self.sound.wall_s(packet.timestamp + int(at))
            for packet, samples in zip(self.heard, decoded(self.heard), strict=True)
            for at in np.flatnonzero(np.abs(samples) > LOUD)[:1]
        ]
        return loud[:1] + [b for a, b in pairwise(loud) if b - a > QUIET_S]

    def offsets_s(self) -> list[tuple[float, float]]:
        """When each flash was, and how much later its beep; by the reports' wall time."""
        beeps = self.beeps()
        near = [(it, min((beep - it for beep in beeps), key=abs)) for it in self.flashes()]
        return [(at_s, apart_s) for at_s, apart_s in near if abs(apart_s) < 0.5]


def decoded(packets: list[OpusPacket]) -> list[NDArray[np.float64]]:
    """-1 to 1, one channel."""
    context = av.CodecContext.create("libopus", "r")
    assert isinstance(context, av.AudioCodecContext)
    context.format, context.layout, context.sample_rate = "s16", "mono", OPUS_HZ
    found = []
    for packet in packets:
        frames = context.decode(av.Packet(packet.payload))
        found.append(np.concatenate([it.to_ndarray().reshape(-1) for it in frames]) / 2**15)
    return found
