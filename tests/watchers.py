"""Viewers that cost next to nothing: they take RTP apart, tell frames from each other, and decode
none."""

from __future__ import annotations

import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
from aiortc.rtp import RtpPacket
from light import decode_nothing
from media import accept, offer_of
from narrow import Narrow
from peers import peer

from stream.rtc import close_quietly


@dataclass(frozen=True, slots=True)
class Got:
    """A whole frame: what was in it, as a checksum, and when it was whole."""

    content: int
    timestamp: int
    size_bytes: int
    at_s: float


class Frames:
    """Stands where aiortc has its jitter buffer. A frame with a hole does not count."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.missing = 0  # packets, as far as later ones show
        self._next: int | None = None  # the sequence number that is due
        self._timestamp: int | None = None
        self._is_whole = False
        self._content = self._size = 0

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """False: no PLI."""
        jump = 0 if self._next is None else (packet.sequence_number - self._next) & 0xFFFF
        if jump >= 0x8000:  # a late one, whose frame is given up
            return False, None
        self.missing += jump
        self._next = (packet.sequence_number + 1) & 0xFFFF
        if packet.timestamp != self._timestamp:
            self._is_whole = jump == 0
            self._timestamp, self._content, self._size = packet.timestamp, 0, 0
        self._is_whole = self._is_whole and jump == 0
        data = packet._data  # type: ignore[attr-defined]  # the receiver sets it
        self._content = zlib.crc32(data, self._content)
        self._size += len(data)
        if packet.marker and self._is_whole:
            self.got.append(Got(self._content, packet.timestamp, self._size, time.monotonic()))
        return False, None

    def since(self, at_s: float) -> list[Got]:
        return [it for it in self.got if it.at_s >= at_s]

    def bit_rate(self, since_s: float) -> float:
        """Of the frames that came whole, until now."""
        return 8 * sum(it.size_bytes for it in self.since(since_s)) / (time.monotonic() - since_s)


Posted = Callable[[str], Awaitable[str]]  # the offer there, the answer back


class Watcher:
    """One viewer, maybe behind a narrow line."""

    def __init__(self, line: Narrow | None = None) -> None:
        self.pc = peer()
        self.frames = Frames()
        self.location = ""
        self._line = line

    async def watch(self, post: Posted, codec: str) -> None:
        transceiver = self.pc.addTransceiver("video", "recvonly")
        decode_nothing(transceiver.receiver, self.frames)  # type: ignore[arg-type]  # has a sink's face
        offer = await offer_of(self.pc, codec)
        line = self._line
        answer = await post(offer if line is None else line.offer(offer))
        await accept(self.pc, answer if line is None else line.answer(answer))

    async def watch_by_whep(
        self, http: aiohttp.ClientSession, base: str, name: str, codec: str
    ) -> None:
        async def post(offer: str) -> str:
            headers = {"Content-Type": "application/sdp"}
            async with http.post(f"{base}/whep/{name}", data=offer, headers=headers) as reply:
                assert reply.status == 201, await reply.text()
                self.location = reply.headers["Location"]
                return await reply.text()

        await self.watch(post, codec)

    async def close(self) -> None:
        await close_quietly(self.pc)


def common_window(watchers: list[Watcher], since_s: float) -> list[list[int]]:
    """What each got of one stretch of the stream: from the first to the last frame that all of
    them have, as checksums. Raises ValueError where they have none in common."""
    contents = [[it.content for it in watcher.frames.since(since_s)] for watcher in watchers]
    shared = set.intersection(*map(set, contents))
    windows = []
    for content in contents:
        marks = [i for i, it in enumerate(content) if it in shared]
        windows.append(content[min(marks) : max(marks) + 1])
    return windows
