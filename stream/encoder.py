"""One encoder for all who watch a session in one codec."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import av

from stream.codecs import Codec, VideoEncoder
from stream.feed import AvatarFrame, Feed
from stream.keyframes import KeyframeRequests
from stream.timestamps import WireClock
from workers.geometry import Geometry

log = logging.getLogger(__name__)


class PacketSink(Protocol):
    """Who gets the packets: a viewer's `PacketTrack`."""

    def push(self, packet: av.Packet[av.VideoStream], now_s: float) -> None: ...

    def stop(self) -> None: ...


class Rendition:
    """Encodes the newest avatar frame once, and hands its packets to every sink.

    While one frame is encoded the newest of the next is kept. Without sinks nothing is encoded.
    Belongs to the event loop; encoding runs in the executor, which the owner closes after this.
    """

    def __init__(
        self,
        codec: Codec,
        geometry: Geometry,
        feed: Feed,
        executor: ThreadPoolExecutor,
        fps: int = 30,
    ) -> None:
        self.codec = codec
        self._geometry = geometry
        self._fps = fps
        self._feed = feed
        self._executor = executor
        self._encoder = VideoEncoder(codec, geometry, fps)
        self._keyframes = KeyframeRequests()
        self._clock = WireClock()
        self._sinks: list[PacketSink] = []
        self._job: asyncio.Future[list[av.Packet[av.VideoStream]]] | None = None
        self._has_newer = False
        self._shown: int | None = None  # the sequence of the frame encoded last
        self._repeat: asyncio.TimerHandle | None = None
        self._failing = False
        self._closed = False
        self.encoded = 0
        self.keyframes = 0
        self.failed = 0

    def attach(self, sink: PacketSink) -> None:
        """Begin to send to it, with a keyframe."""
        if self._closed:
            sink.stop()
            return
        if not self._sinks:
            self._feed.listen(self._on_frame)
        self._sinks.append(sink)
        self.request_keyframe()

    def detach(self, sink: PacketSink) -> None:
        """Send it nothing more; detaching twice is no error."""
        if sink in self._sinks:
            self._sinks.remove(sink)
        if not self._sinks:
            self._feed.leave(self._on_frame)

    def request_keyframe(self) -> None:
        """The next frame that may be a keyframe is one; a silent session's held frame is used."""
        self._keyframes.ask()
        self._schedule_repeat()

    async def close(self) -> None:
        """Stop every sink; returns when the executor no longer uses a slot."""
        self._closed = True
        self._cancel_repeat()
        for sink in tuple(self._sinks):
            sink.stop()
            self.detach(sink)
        if self._job is not None:
            await asyncio.wait([self._job])

    def _on_frame(self, frame: AvatarFrame) -> None:
        if self._job is not None:
            self._has_newer = True
        else:
            self._encode_latest()

    def _encode_latest(self) -> None:
        if not self._feed.is_open:  # the session's lane is another's by now
            return
        frame = self._feed.latest
        now_s = time.monotonic()
        if frame.sequence == self._shown:
            pts = self._clock.hold(now_s)
        else:
            pts = self._clock.frame(frame.pts, frame.time_base, now_s)
        self._shown = frame.sequence
        keyframe = self._keyframes.is_due(now_s)
        if keyframe:
            self._keyframes.made(now_s)
        self._has_newer = False
        loop = asyncio.get_running_loop()
        self._job = loop.run_in_executor(
            self._executor, self._encoder.encode, frame.array, pts, keyframe
        )
        self._job.add_done_callback(partial(self._on_encoded, frame.retain()))

    def _on_encoded(
        self, frame: AvatarFrame, job: asyncio.Future[list[av.Packet[av.VideoStream]]]
    ) -> None:
        self._job = None
        frame.release()
        try:
            packets = job.result()
        except (Exception, asyncio.CancelledError) as error:  # its owner: one frame less
            self._on_failed(error)
        else:
            self._failing = False
            self._send(packets)
        if self._closed or not self._sinks:
            return
        if self._has_newer:
            self._encode_latest()
        else:
            self._schedule_repeat()

    def _on_failed(self, error: BaseException) -> None:
        self.failed += 1
        if not self._failing:
            log.error("encoding failed: codec=%s error=%s", self.codec.value, error)
        self._failing = True
        self._encoder = VideoEncoder(self.codec, self._geometry, self._fps)
        self._keyframes.ask()

    def _send(self, packets: list[av.Packet[av.VideoStream]]) -> None:
        now_s = time.monotonic()
        for packet in packets:
            self.encoded += 1
            if packet.is_keyframe:
                self.keyframes += 1
                self._keyframes.made(now_s)
            for sink in tuple(self._sinks):
                sink.push(packet, now_s)

    def _schedule_repeat(self) -> None:
        self._cancel_repeat()
        at_s = self._keyframes.repeat_at(self._feed.newest_s)
        if at_s is None or self._closed or not self._sinks or self._job is not None:
            return
        loop = asyncio.get_running_loop()
        self._repeat = loop.call_later(max(at_s - time.monotonic(), 0), self._encode_held)

    def _encode_held(self) -> None:
        self._repeat = None
        if self._job is None and self._sinks:
            at_s = self._keyframes.repeat_at(self._feed.newest_s)
            if at_s is None:
                return
            if at_s > time.monotonic():
                self._schedule_repeat()
            else:
                self._encode_latest()

    def _cancel_repeat(self) -> None:
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None


class Renditions:
    """A session's renditions, each opened when somebody needs it."""

    def __init__(
        self, geometry: Geometry, feed: Feed, executor: ThreadPoolExecutor, fps: int = 30
    ) -> None:
        self._geometry = geometry
        self._feed = feed
        self._executor = executor
        self._fps = fps
        self._open: dict[Codec, Rendition] = {}

    def get(self, codec: Codec) -> Rendition:
        """The session's one rendition in this codec."""
        if codec not in self._open:
            self._open[codec] = Rendition(
                codec, self._geometry, self._feed, self._executor, self._fps
            )
        return self._open[codec]

    async def close(self) -> None:
        """Stop everybody who watches; returns when no slot is in use any more."""
        for rendition in self._open.values():
            await rendition.close()
