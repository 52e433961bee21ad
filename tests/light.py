"""Peers that cost next to nothing: clips encoded beforehand out, frames counted at their marker.

What comes back is never decoded here, so that a measurement sees the server and little else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import cycle

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtp import RtpPacket
from av import Packet, VideoFrame
from av.video.codeccontext import VideoCodecContext
from peers import Client, Seen, paint, read

from stream.decoder import open_decoder

WIRE_HZ = 90_000
SESSION_SHIFT = 10  # a frame's drawn number: the session's above, the clip's position below


@dataclass(frozen=True, slots=True)
class Clip:
    """Encoded frames that may be played round and round: the first is the one keyframe."""

    codec: str  # "H264" or "VP8"
    fps: int
    frames: tuple[bytes, ...]

    @property
    def bit_rate(self) -> float:
        return 8 * sum(map(len, self.frames)) / len(self.frames) * self.fps


def moving(width: int, height: int, frames: int) -> Iterator[VideoFrame]:
    """Shapes that wander over a textured ground, under the noise of a camera's chip."""
    noise = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    ground = 110 + 40 * np.sin(x / 23) * np.cos(y / 31)
    for number in range(frames):
        turn = 2 * np.pi * number / frames
        cx, cy = width * (0.5 + 0.3 * np.cos(turn)), height * (0.5 + 0.3 * np.sin(turn))
        disc = ((x - cx) ** 2 + (y - cy) ** 2) < (width / 6) ** 2
        luma = np.where(disc, 190, np.roll(ground, round(width * number / frames), 1))
        data = np.full((height * 3 // 2, width), 128, np.uint8)
        grain = noise.normal(0, 2.5, luma.shape)
        data[:height] = np.clip(luma + grain, 16, 235).astype(np.uint8)
        data[height : height * 5 // 4] = 128 + round(30 * np.sin(turn))
        yield VideoFrame.from_ndarray(data, "yuv420p")


def numbered(session: int, width: int, height: int, frames: int) -> Iterator[VideoFrame]:
    """Flat pictures with the session and the position drawn in, which `peers.read` reads back."""
    for number in range(frames):
        yield paint("cyan", session << SESSION_SHIFT | number, width, height)


def encode(codec: str, fps: int, bit_rate: int, pictures: Sequence[VideoFrame]) -> Clip:
    context = av.CodecContext.create({"H264": "libx264", "VP8": "libvpx"}[codec], "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = pictures[0].width, pictures[0].height
    context.pix_fmt = "yuv420p"
    context.time_base, context.framerate = Fraction(1, fps), Fraction(fps)
    context.bit_rate = bit_rate
    context.gop_size, context.max_b_frames, context.thread_count = 10_000, 0, 1
    if codec == "H264":
        context.options = {"preset": "veryfast", "tune": "zerolatency", "sc_threshold": "0"}
        context.profile = "Baseline"
    else:
        context.options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0",
                           "auto-alt-ref": "0"}  # fmt: skip
    packets: list[bytes] = []
    for number, picture in enumerate(pictures):
        picture.pts, picture.time_base = number, context.time_base
        packets += (bytes(packet) for packet in context.encode(picture))
    packets += (bytes(packet) for packet in context.encode(None))
    assert len(packets) == len(pictures)
    return Clip(codec, fps, tuple(packets))


class ClipTrack(MediaStreamTrack):
    """Plays a clip, for ever or up to `most` frames, on a clock of its own.

    The timestamps stray by a few milliseconds as a camera's do, by which the avatar's frames are
    told apart later.
    """

    kind = "video"

    def __init__(self, clip: Clip, seed: int = 0, most: int | None = None) -> None:
        super().__init__()
        self._clip = clip
        self._frames = cycle(clip.frames)
        self._random = random.Random(seed)
        self.most = most
        self._began_s: float | None = None
        self.sent = 0

    async def recv(self) -> Packet:
        if self.readyState != "live":
            raise MediaStreamError
        if self.most is not None and self.sent >= self.most:
            await asyncio.Event().wait()  # silent, and connected
        if self._began_s is None:
            # Many peers that began in one millisecond would send in one burst for ever.
            self._began_s = time.monotonic() + self._random.random() / self._clip.fps
        due_s = self._began_s + self.sent / self._clip.fps
        await asyncio.sleep(max(due_s - time.monotonic(), 0))
        packet = Packet(next(self._frames))
        stray = self._random.randint(-150, 150)
        packet.pts = WIRE_HZ + self.sent * WIRE_HZ // self._clip.fps + stray
        packet.time_base = Fraction(1, WIRE_HZ)
        self.sent += 1
        return packet


@dataclass(frozen=True, slots=True)
class Came:
    """A frame that came back whole, and when its first and its last packet did."""

    timestamp: int
    first_s: float
    last_s: float
    data: bytes  # empty unless asked for


@dataclass
class Sink:
    """Stands where aiortc has its jitter buffer; loopback loses and mixes nothing up."""

    keeps_data: bool = False
    came: list[Came] = field(default_factory=list)
    _first_s: float = 0.0
    _timestamp: int | None = None
    _parts: list[bytes] = field(default_factory=list)

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        now_s = time.monotonic()
        if packet.timestamp != self._timestamp:
            self._timestamp, self._first_s = packet.timestamp, now_s
            self._parts.clear()
        if self.keeps_data:
            self._parts.append(packet._data)  # type: ignore[attr-defined]  # the receiver sets it
        if packet.marker:
            self.came.append(Came(packet.timestamp, self._first_s, now_s, b"".join(self._parts)))
        return False, None


class _Nothing:
    """Where aiortc's decoder thread looks for work: it ends at once."""

    def get(self) -> None:
        return None

    def put(self, task: object) -> None:
        pass


def decode_nothing(receiver: RTCRtpReceiver, sink: Sink) -> None:
    """Before the answer is applied: from packets to the sink, and no further."""
    for name, mine in (("jitter_buffer", sink), ("decoder_queue", _Nothing())):
        private = f"_RTCRtpReceiver__{name}"
        getattr(receiver, private)  # AttributeError: aiortc has changed
        setattr(receiver, private, mine)


class LightClient:
    """Publishes a clip and gets its avatar back; one peer of maybe many in this process."""

    def __init__(
        self, clip: Clip, seed: int = 0, most: int | None = None, keeps_data: bool = False
    ) -> None:
        self.codec = clip.codec
        self.track = ClipTrack(clip, seed, most)
        self.sink = Sink(keeps_data)
        self.client = Client()
        self.sent: dict[int, float] = {}  # timestamp on the wire → its last packet is handed over

    async def publish(
        self, http: aiohttp.ClientSession, base: str, name: str | None = None
    ) -> None:
        transceiver = self.client.pc.addTransceiver(self.track, "sendrecv")
        decode_nothing(transceiver.receiver, self.sink)
        url = f"{base}/whip/{name}" if name else f"{base}/whip"
        await self.client.offer(http, url, self.codec)
        self._watch_sending(transceiver.sender.transport)

    async def close(self, http: aiohttp.ClientSession) -> None:
        self.track.stop()
        await self.client.end(http)

    def fall_silent(self) -> None:
        """No frame is sent from now on; the connection stays."""
        self.track.most = self.track.sent

    def lost(self, since_s: float) -> int:
        """Frames sent since then whose avatar has not come back."""
        return len(self.avatars(since_s) - {it.timestamp for it in self.sink.came})

    def avatars(self, since_s: float) -> set[int]:
        """The timestamps that those of the frames sent since then have."""
        offset = offset_between(list(self.sent), [it.timestamp for it in self.sink.came])
        sent = (timestamp for timestamp, at_s in self.sent.items() if at_s >= since_s)
        return {(timestamp + offset) & 0xFFFFFFFF for timestamp in sent}

    def latencies_s(self, since_s: float) -> list[float]:
        """From each frame's last packet out to the first of its avatar in, by timestamp."""
        came = [it for it in self.sink.came if it.first_s >= since_s]
        offset = offset_between(list(self.sent), [it.timestamp for it in came])
        sent_s = {(timestamp + offset) & 0xFFFFFFFF: at_s for timestamp, at_s in self.sent.items()}
        return [it.first_s - sent_s[it.timestamp] for it in came if it.timestamp in sent_s]

    def _watch_sending(self, transport: object) -> None:
        send = transport._send_rtp  # type: ignore[attr-defined]  # aiortc's own

        async def watched(data: bytes) -> None:
            # RTP (RFC 3550, 5.1): the marker is the second byte's first bit. RTCP's packet types
            # lie at 192 to 223 (RFC 5761).
            if data[1] & 0x80 and not 192 <= data[1] <= 223:
                self.sent[int.from_bytes(data[4:8], "big")] = time.monotonic()
            await send(data)

        transport._send_rtp = watched  # type: ignore[attr-defined]  # aiortc's own


def offset_between(sent: Sequence[int], came: Sequence[int]) -> int:
    """What the server adds to a timestamp: the one difference that fits more than chance allows.

    Every frame strays from the beat by its own amount, so a wrong pairing fits few frames.
    Raises LookupError when nothing fits half of what came.
    """
    if not came:
        raise LookupError("nothing came back")
    differences = Counter((c - s) & 0xFFFFFFFF for c in came[-60:] for s in sent)
    offset, times = differences.most_common(1)[0]
    if times < min(len(came), 60) / 2:
        raise LookupError(f"{times} of {len(came)} frames fit the best offset")
    return offset


@asynccontextmanager
async def crowd(
    http: aiohttp.ClientSession, base: str, clips: Sequence[Clip], keeps_data: bool = False
) -> AsyncIterator[list[LightClient]]:
    """A session for each clip, called `crowd-N`, all sending."""
    clients = [LightClient(clip, n, keeps_data=keeps_data) for n, clip in enumerate(clips)]
    try:
        for n, client in enumerate(clients):
            await client.publish(http, base, f"crowd-{n}")
        yield clients
    finally:
        await asyncio.gather(*(it.close(http) for it in clients), return_exceptions=True)


def pictures_of(client: LightClient) -> list[tuple[int, Seen]]:
    """What came back, decoded now and read, in order, each with its timestamp on the wire.

    Of a client that keeps its data.
    """
    decoder = open_decoder(client.codec)
    return [
        (it.timestamp, read(picture))
        for it in client.sink.came
        for picture in decoder.decode(Packet(it.data))
    ]
