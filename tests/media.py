"""A worker of the simplest kind, and peers that offer by hand: for the tests of the media path."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from av import VideoFrame

from stream.card import make_card
from stream.encoder import Renditions
from stream.feed import Feed
from stream.lane import LaneInbox
from stream.registry import LaneNumbers
from workers.frame import FrameRef
from workers.geometry import Geometry
from workers.ring import Arena, Ring
from workers.swscale import Fit

GEOMETRY = Geometry(64, 48)


def picture(width: int, height: int, luma: int, pts: int = 0) -> VideoFrame:
    """A grey frame, I420."""
    data = np.full((height * 3 // 2, width), 128, np.uint8)
    data[:height] = luma
    frame = VideoFrame.from_ndarray(data, "yuv420p")
    frame.pts, frame.time_base = pts, Fraction(1, 90_000)
    return frame


def emit(ring: Ring, lease: int, sequence: int, luma: int, pts: int = 0) -> None:
    """What a worker does with a finished frame: into the outbox."""
    claim = ring.claim()
    assert claim is not None
    ring.view(claim.slot)[:] = luma
    base = Fraction(1, 90_000)
    ring.publish(FrameRef(ring.lane, lease, sequence, claim.slot, pts, base, time.monotonic()))


@dataclass
class Stage:
    """One lane of a small arena, a worker that mirrors it, and what the stream side needs."""

    arena: Arena
    feed: Feed
    renditions: Renditions
    inbox: LaneInbox
    geometry: Geometry
    mirrored: int = 0
    invert: bool = False

    def mirror(self) -> None:
        """The worker's side: the newest camera frame, copied to the outbox."""
        inbox, outbox = self.arena.inbox(0), self.arena.outbox(0)
        newest, _ = inbox.take_newest()
        if newest is None:
            return
        claim = outbox.claim()
        if claim is not None:
            pixels = inbox.view(newest.slot)
            outbox.view(claim.slot)[:] = 255 - pixels if self.invert else pixels
            outbox.publish(replace(newest, slot=claim.slot))
            self.mirrored += 1
        inbox.give_back(newest.slot)


@contextlib.asynccontextmanager
async def stage(geometry: Geometry = GEOMETRY) -> AsyncIterator[Stage]:
    loop = asyncio.get_running_loop()
    with (
        ThreadPoolExecutor(2, thread_name_prefix="encode") as executor,
        Arena.create(geometry, lanes=1) as arena,
    ):
        feed = Feed(arena.outbox(0), 1, make_card(geometry))
        feed.open()
        renditions = Renditions(geometry, feed, executor)
        inbox = LaneInbox(arena.inbox(0), 1, LaneNumbers().take_sequence, geometry, Fit.COVER)
        it = Stage(arena, feed, renditions, inbox, geometry)
        fd = arena.inbox(0).ready_fd
        loop.add_reader(fd, it.mirror)
        try:
            yield it
        finally:
            loop.remove_reader(fd)
            inbox.close()
            await renditions.close()
            feed.close()


async def offer_of(pc: RTCPeerConnection, codec: str | None = None) -> str:
    """A complete offer of the peer's transceivers, its video in one codec where one is named."""
    for transceiver in pc.getTransceivers():
        if codec and transceiver.kind == "video":
            capabilities = RTCRtpSender.getCapabilities("video").codecs
            transceiver.setCodecPreferences(
                [c for c in capabilities if c.mimeType in (f"video/{codec}", "video/rtx")]
            )
    await pc.setLocalDescription(await pc.createOffer())
    return str(pc.localDescription.sdp)


async def accept(pc: RTCPeerConnection, answer: str) -> None:
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))


async def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Waits for it; raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for is anybody's
            await asyncio.sleep(0.01)


def open_fds() -> set[str]:
    """The process's descriptors, as what they lead to."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{fd.name} → {fd.readlink()}")
    return found


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fails if the block leaves a task, a thread or a descriptor behind.

    Executors are not counted: the tests' peers encode in the loop's own, and ours is the stage's.
    """
    tasks, threads, fds = asyncio.all_tasks(), set(threading.enumerate()), open_fds()

    def left() -> Iterator[str]:
        yield from map(str, asyncio.all_tasks() - tasks)
        for thread in set(threading.enumerate()) - threads:
            if not thread.name.startswith(("asyncio_", "encode")):
                yield str(thread)
        yield from open_fds() - fds

    yield
    with contextlib.suppress(TimeoutError):
        await until(lambda: not any(True for _ in left()), 2.0)
    assert not list(left()), list(left())
