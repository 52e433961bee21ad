"""A publisher over a network that loses packets, and which of its frames arrive intact."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from media import accept, offer_of, until
from network import Network
from numpy.typing import NDArray
from peers import peer

from stream import rtc, sending
from stream.decoder import open_decoder
from stream.receiving import VideoReceiving
from stream.rtc import close_quietly, new_connection

WIDTH, HEIGHT, FPS = 640, 480, 30
BIT_RATE = 300_000
PLI_ANSWER_S = 0.06  # the next frame then, 33 ms later at most, is the keyframe
CODE = 16  # bits, each a cell of 32 × 32 in the upper left corner
CELL = 32
TIME_BASE = Fraction(1, 90_000)


class Clip:
    """Frames that differ everywhere from one to the next, each with its number drawn in."""

    def __init__(self) -> None:
        dice = np.random.default_rng(5)
        coarse = dice.integers(40, 216, (HEIGHT // 8, WIDTH // 8), np.uint8)
        self._scene = coarse.repeat(16, 0).repeat(16, 1)
        grain = dice.integers(-5, 6, (8, HEIGHT // 4, WIDTH // 4), np.int16)
        self._grain = grain.repeat(4, 1).repeat(4, 2)

    def picture(self, number: int) -> av.VideoFrame:
        data = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        y, x = (number * 3) % HEIGHT, (number * 2) % WIDTH
        scene = self._scene[y : y + HEIGHT, x : x + WIDTH]
        data[:HEIGHT] = scene + self._grain[number % 8]
        bits = (number >> np.arange(CODE)) & 1
        cells = np.where(bits.reshape(4, 4), 200, 50).astype(np.uint8)
        data[: 4 * CELL, : 4 * CELL] = cells.repeat(CELL, 0).repeat(CELL, 1)
        return av.VideoFrame.from_ndarray(data, "yuv420p")


def number_in(pixels: NDArray[np.uint8]) -> int:
    cells = pixels[: 4 * CELL, : 4 * CELL].reshape(4, CELL, 4, CELL).mean((1, 3))
    bits = (cells > 125).reshape(-1).astype(np.int64)
    return int((bits << np.arange(CODE)).sum())


def _open_encoder(codec: str) -> VideoCodecContext:
    context = av.CodecContext.create({"H264": "libx264", "VP8": "libvpx"}[codec], "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.framerate = TIME_BASE, Fraction(FPS)
    context.bit_rate, context.gop_size, context.thread_count = BIT_RATE, 100_000, 1
    context.max_b_frames = 0
    if codec == "H264":
        context.profile = "Baseline"
        context.options = {
            "preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1", "sc_threshold": "0",
            "maxrate": str(BIT_RATE), "bufsize": str(BIT_RATE // 2),
        }  # fmt: skip
    else:
        context.options = {
            "deadline": "realtime", "cpu-used": "-12", "lag-in-frames": "0", "auto-alt-ref": "0",
            "minrate": str(BIT_RATE), "maxrate": str(BIT_RATE), "bufsize": str(BIT_RATE // 2),
        }  # fmt: skip
        context.qmin, context.qmax = 4, 63
    return context


class Encoded(MediaStreamTrack):
    """The clip as packets of 300 kbit/s, and a keyframe soon after it was asked for one.

    What a decoder shows for each frame when nothing was lost is kept: its checksum, by number.
    """

    kind = "video"

    def __init__(self, clip: Clip, codec: str) -> None:
        super().__init__()
        self._clip = clip
        self._encoder, self._decoder = _open_encoder(codec), open_decoder(codec)
        self._began_s = time.monotonic()
        self._keyframe_due_s: float | None = None
        self.number = 0  # of the next frame
        self.shown: dict[int, int] = {}
        self.keyframes = 0
        self.asked = 0
        self.bytes = 0

    def ask(self) -> None:
        """A PLI has come."""
        self.asked += 1
        if self._keyframe_due_s is None:
            self._keyframe_due_s = time.monotonic() + PLI_ANSWER_S

    async def recv(self) -> Any:  # Any: aiortc takes packets as well as frames
        if self.readyState != "live":
            raise MediaStreamError
        due_s = self._began_s + self.number / FPS
        await asyncio.sleep(max(due_s - time.monotonic(), 0))
        keyframe = self.number == 0 or (
            self._keyframe_due_s is not None and time.monotonic() >= self._keyframe_due_s
        )
        if keyframe:
            self._keyframe_due_s = None
            self.keyframes += 1
        packet = await asyncio.to_thread(self._encode, self.number, keyframe)
        self.number += 1
        return packet

    def _encode(self, number: int, keyframe: bool) -> av.Packet[Any]:
        picture = self._clip.picture(number)
        picture.pts, picture.time_base = number * 90_000 // FPS, TIME_BASE
        picture.duration = 90_000 // FPS
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        (packet,) = self._encoder.encode(picture)
        packet.time_base = TIME_BASE
        (shown,) = self._decoder.decode(packet)
        self.shown[number] = checksum(shown.to_ndarray())
        self.bytes += packet.size
        return packet


def checksum(pixels: NDArray[np.uint8]) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels))


class Gallery:
    """Every picture that was decoded: when, its number, its checksum."""

    def __init__(self) -> None:
        self.hung: list[tuple[float, int, int]] = []

    def put(self, frame: av.VideoFrame, arrival_s: float) -> None:
        pixels = frame.to_ndarray()
        self.hung.append((time.monotonic(), number_in(pixels), checksum(pixels)))


@dataclass(frozen=True, slots=True)
class Played:
    """What became of the frames from `first` up to `end`."""

    first: int
    end: int
    shown: dict[int, int]
    hung: list[tuple[float, int, int]]
    began_s: float
    ended_s: float
    lost_packets: int
    passed_packets: int
    keyframes: int
    asked: int
    bit_rate: float

    @property
    def intact(self) -> set[int]:
        """The numbers of frames that look exactly as if nothing was ever lost."""
        return {
            number
            for _, number, seen in self.hung
            if self.first <= number < self.end and self.shown.get(number) == seen
        }

    @property
    def sent(self) -> int:
        return self.end - self.first

    @property
    def share(self) -> float:
        return len(self.intact) / self.sent

    @property
    def smeared(self) -> int:
        return sum(self.shown.get(number) != seen for _, number, seen in self.hung)

    @property
    def is_in_order(self) -> bool:
        return all(a[1] < b[1] for a, b in pairwise(self.hung))

    @property
    def longest_gap_frames(self) -> int:
        """The most frames in a row that did not arrive intact, up to the end."""
        marks = [self.first - 1, *sorted(self.intact), self.end]
        return max(b - a - 1 for a, b in pairwise(marks))

    @property
    def gaps_s(self) -> list[float]:
        """From one frame to the next, from the beginning and up to the end."""
        at_s = [it[0] for it in self.hung if self.began_s <= it[0] <= self.ended_s]
        return [b - a for a, b in pairwise([self.began_s, *at_s, self.ended_s])]

    @property
    def longest_gap_s(self) -> float:
        return max(self.gaps_s)

    @property
    def last_s(self) -> float:
        """When the last frame came, since the beginning."""
        return max((it[0] for it in self.hung), default=self.began_s) - self.began_s


async def play(
    loss: float,
    seconds: float,
    codec: str = "H264",
    *,
    retransmits: bool = False,
    stock: bool = False,
    seed: int = 1,
    clip: Clip | None = None,
) -> Played:
    """Publishes for so long over a network that loses so many packets, each way.

    retransmits: whether the publisher heeds NACKs. stock: aiortc's own receiver, as a control.
    """
    publisher, gallery = peer(), Gallery()
    track = Encoded(clip or Clip(), codec)
    sender = publisher.addTransceiver(track, "sendonly").sender
    sending.on_keyframe_request(sender, track.ask)
    if not retransmits:
        sender._retransmit = _never
    async with Network(seed) as network:
        offer = await network.way_to_server(await offer_of(publisher, codec))
        ours, close = await (_stock if stock else _ours)(offer, gallery)
        await accept(publisher, await network.way_to_peer(ours.localDescription.sdp))
        await until(lambda: len(gallery.hung) > 5, 10.0)
        first, began_s = track.number, time.monotonic()
        network.loss = loss
        await asyncio.sleep(seconds)
        end, ended_s = track.number, time.monotonic()
        lost, passed = network.lost, network.passed
        network.loss = 0.0
        await asyncio.sleep(0.5)  # for what is on its way
        close()
        await asyncio.gather(close_quietly(publisher), close_quietly(ours))
    return Played(
        first, end, track.shown, gallery.hung, began_s, ended_s, lost, passed,
        track.keyframes, track.asked, track.bytes * 8 / (track.number / FPS),
    )  # fmt: skip


def play_alone(
    loss: float, seconds: float, codec: str, retransmits: bool, stock: bool, seed: int
) -> Played:
    """`play` in an event loop of its own: for a process of its own."""
    return asyncio.run(play(loss, seconds, codec, retransmits=retransmits, stock=stock, seed=seed))


async def _never(_: int) -> None:
    """For a sender's `_retransmit`."""


async def _ours(offer: str, gallery: Gallery) -> tuple[RTCPeerConnection, Callable[[], None]]:
    pc = new_connection()
    await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    (transceiver,) = pc.getTransceivers()
    receiving = VideoReceiving(transceiver, gallery)
    transceiver.direction = "recvonly"
    rtc.answer_passively(transceiver)
    await pc.setLocalDescription(await pc.createAnswer())
    return pc, receiving.close


async def _stock(offer: str, gallery: Gallery) -> tuple[RTCPeerConnection, Callable[[], None]]:
    pc = peer()
    await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await pc.setLocalDescription(await pc.createAnswer())
    track = pc.getReceivers()[0].track

    async def look() -> None:
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.VideoFrame)
                gallery.put(frame, 0.0)
        except MediaStreamError:
            pass

    looking = asyncio.create_task(look())
    return pc, lambda: looking.cancel() and None
