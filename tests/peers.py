"""Real WebRTC peers for the tests: publishers whose frames carry their colour and number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import aiohttp
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame
from network import Network

from stream.rtc import close_quietly

CODE_BITS = 16
DARK, LIGHT = 90, 160
COLOURS = {  # U, V: far apart, and within RGB at either luma
    "red": (88, 178),
    "blue": (168, 78),
    "green": (88, 78),
    "yellow": (88, 128),
    "cyan": (128, 78),
    "magenta": (168, 178),
    "violet": (168, 128),
    "orange": (128, 178),
}


def paint(colour: str, number: int, width: int = 128, height: int = 128) -> VideoFrame:
    """A flat frame with `number` drawn as a grid of 4 × 4 dark and light cells, I420."""
    data = np.empty((height * 3 // 2, width), np.uint8)
    bits = (number >> np.arange(CODE_BITS)) & 1
    cells = np.where(bits.reshape(4, 4), LIGHT, DARK).astype(np.uint8)
    data[:height] = cells.repeat(height // 4, 0).repeat(width // 4, 1)
    u, v = COLOURS[colour]
    data[height : height * 5 // 4] = u
    data[height * 5 // 4 :] = v
    return VideoFrame.from_ndarray(data, "yuv420p")


@dataclass(frozen=True, slots=True)
class Seen:
    """A received frame, read back: whose colour, which number, how sure, when."""

    at_s: float
    colour: str | None  # None: no colour of ours (the card, say)
    number: int
    pts: int
    chroma: tuple[float, float]  # U, V: medians
    edge: int | None  # 8 bits, down the right eighth: what the Counting avatar drew; None: blurred


def read(frame: VideoFrame) -> Seen:
    """The nearest of the colours (None if none is near), and the number of the grid."""
    now = time.monotonic()
    data = frame.to_ndarray(format="yuv420p")
    height, width = frame.height, frame.width
    luma = data[:height].reshape(height, width)
    chroma = data[height:].reshape(-1)
    half = chroma.size // 2
    u, v = float(np.median(chroma[:half])), float(np.median(chroma[half:]))
    name, (cu, cv) = min(
        COLOURS.items(), key=lambda item: (item[1][0] - u) ** 2 + (item[1][1] - v) ** 2
    )
    near = abs(cu - u) < 18 and abs(cv - v) < 18
    ys = ((np.arange(4) + 0.5) * height / 4).astype(int)
    xs = ((np.arange(4) + 0.5) * width / 4).astype(int)
    means = np.array([[luma[y - 3 : y + 4, x - 3 : x + 4].mean() for x in xs] for y in ys])
    bits = (means > (DARK + LIGHT) / 2).reshape(-1).astype(np.int64)
    number = int((bits << np.arange(CODE_BITS)).sum())
    strip = luma[:, width - width // 16]
    marks = [float(strip[int((row + 0.5) * height / 8)]) for row in range(8)]
    # Drawn in black and white; a block that a lossy frame left as it was is neither.
    is_clear = all(mark < 70 or mark > 180 for mark in marks)
    edge = sum(int(mark > 125) << row for row, mark in enumerate(marks)) if is_clear else None
    return Seen(now, name if near else None, number, frame.pts or 0, (u, v), edge)


class Performer(MediaStreamTrack):
    """A camera with a clock of its own; `is_silent` stalls it."""

    kind = "video"

    def __init__(
        self, colour: str, fps: float, width: int = 128, height: int = 128, first: int = 1
    ) -> None:
        super().__init__()
        self.colour, self.fps = colour, fps
        self.size = (width, height)
        self.number = first
        self.is_silent: Callable[[], bool] = lambda: False
        self._due_s = time.monotonic()
        self._start_s = self._due_s

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        while True:
            self._due_s = max(self._due_s + 1 / self.fps, time.monotonic() - 1 / self.fps)
            await asyncio.sleep(max(self._due_s - time.monotonic(), 0))
            if not self.is_silent():
                break
        frame = paint(self.colour, self.number % (1 << CODE_BITS), *self.size)
        frame.pts = int((self._due_s - self._start_s) * 90_000)
        frame.time_base = Fraction(1, 90_000)
        self.number += 1
        return frame


def peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


@dataclass
class Client:
    """One end of a session: publishes, watches, or both."""

    pc: RTCPeerConnection = field(default_factory=peer)
    location: str = ""
    name: str = ""
    seen: list[Seen] = field(default_factory=list)
    frames: list[VideoFrame] | None = None  # set to a list to keep the pictures themselves
    network: Network | None = None  # that the connection leads through
    _reader: asyncio.Task[None] | None = None

    async def offer(self, http: aiohttp.ClientSession, url: str, codec: str | None = None) -> None:
        """Posts the offer and applies the answer. Raises for any status but 201."""
        if codec:
            wanted = [
                c
                for c in RTCRtpSender.getCapabilities("video").codecs
                if c.mimeType.lower() == f"video/{codec}".lower()
            ]
            for transceiver in self.pc.getTransceivers():
                if transceiver.kind == "video":
                    transceiver.setCodecPreferences(wanted)
        await self.pc.setLocalDescription(await self.pc.createOffer())
        headers = {"Content-Type": "application/sdp"}
        offer = self.pc.localDescription.sdp
        if self.network is not None:
            offer = await self.network.way_to_server(offer)
        async with http.post(url, data=offer, headers=headers) as reply:
            body = await reply.text()
            if reply.status != 201:
                raise RuntimeError(f"{reply.status}: {body}")
            self.location = reply.headers["Location"]
            self.name = reply.headers.get("Omokage-Session", "")
        if self.network is not None:
            body = await self.network.way_to_peer(body)
        await self.pc.setRemoteDescription(RTCSessionDescription(body, "answer"))

    async def publish(
        self,
        http: aiohttp.ClientSession,
        base: str,
        camera: MediaStreamTrack,
        name: str | None = None,
        *,
        back: bool = True,
        codec: str | None = None,
    ) -> None:
        transceiver = self.pc.addTransceiver(camera, "sendrecv" if back else "sendonly")
        await self.offer(http, f"{base}/whip/{name}" if name else f"{base}/whip", codec)
        if back:
            self._read(transceiver.receiver.track)

    async def watch(
        self, http: aiohttp.ClientSession, base: str, name: str, codec: str | None = None
    ) -> None:
        transceiver = self.pc.addTransceiver("video", "recvonly")
        await self.offer(http, f"{base}/whep/{name}", codec)
        self._read(transceiver.receiver.track)

    def _read(self, track: MediaStreamTrack) -> None:
        async def run() -> None:
            try:
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, VideoFrame)
                    self.seen.append(read(frame))
                    if self.frames is not None:
                        self.frames.append(frame)
            except MediaStreamError:
                pass

        self._reader = asyncio.create_task(run())

    async def end(self, http: aiohttp.ClientSession) -> int:
        """DELETE, then close; the status of the DELETE."""
        async with http.delete(self.location) as reply:
            status = reply.status
        await self.close()
        return status

    async def close(self) -> None:
        await close_quietly(self.pc)
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
