"""One encoder for all who watch a session in one codec and at one rate."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import av

from stream.audience import Audience
from stream.codecs import Codec, VideoEncoder, bit_rate_for
from stream.feed import AvatarFrame, Feed
from stream.keyframes import KeyframeRequests
from stream.steady import TakenTime
from stream.timestamps import WIRE_HZ, WireClock
from workers.geometry import Geometry

log = logging.getLogger(__name__)

# A lower rendition shows every other frame of a fluent source: half the frames at half the rate
# look better than all of them smeared. A little less than two frames of 30 a second apart.
LOWER_FPS = 15
_LOWER_GAP_S = 0.045


# A picture's packets were handed over: its age since the camera's frame came, and now, in seconds.
PictureListener = Callable[[float, float], None]


class PacketSink(Protocol):
    """Who gets the packets: a viewer's `PacketTrack`."""

    def push(self, packet: av.Packet[av.VideoStream], now_s: float) -> None: ...

    def stop(self) -> None: ...


class SessionClock:
    """One wire clock for all renditions, so that a viewer may change from one to another."""

    def __init__(self) -> None:
        self._clock = WireClock()
        self._sequence: int | None = None  # of the frame that was stamped last
        self.taken = TakenTime(WIRE_HZ)

    def stamp(self, frame: AvatarFrame, is_held: bool, now_s: float) -> int:
        """is_held: the rendition has shown the frame before. Rises for each rendition."""
        if is_held:
            return self._clock.hold(now_s)
        if frame.sequence != self._sequence:
            self._sequence = frame.sequence
            pts = self._clock.frame(frame.pts, frame.time_base, now_s)
            if frame.arrival_s is not None:
                self.taken.came(pts, frame.arrival_s)
            return pts
        return self._clock.latest()


class Rendition:
    """Encodes the newest avatar frame once, and hands its packets to every sink.

    While one frame is encoded the newest of the next is kept. Without sinks nothing is encoded,
    and no codec is open. A lower rendition encodes copies: however slow it is and however many
    there are, the slots that an outbox has are enough for one rendition a codec.

    Belongs to the event loop; encoding runs in the executor, which the owner closes after this.
    """

    def __init__(
        self,
        codec: Codec,
        geometry: Geometry,
        feed: Feed,
        executor: ThreadPoolExecutor,
        fps: int = 30,
        clock: SessionClock | None = None,
        bit_rate: int | None = None,
        is_lower: bool = False,
    ) -> None:
        self.codec = codec
        self.fps = fps
        self._geometry = geometry
        self._feed = feed
        self._executor = executor
        self._is_lower = is_lower
        self._most_bit_rate = bit_rate_for(geometry, fps)
        self.bit_rate = min(bit_rate or self._most_bit_rate, self._most_bit_rate)
        self._encoder = self._new_encoder()
        self._keyframes = KeyframeRequests()
        self._clock = clock or SessionClock()
        self._encoded_s = float("-inf")
        self._sinks: list[PacketSink] = []
        self._job: asyncio.Future[list[av.Packet[av.VideoStream]]] | None = None
        self._has_newer = False
        self._shown: int | None = None  # the sequence of the frame encoded last
        self._repeat: asyncio.TimerHandle | None = None
        self._failing = False
        self._closed = False
        self.on_picture: PictureListener | None = None
        self._told: int | None = None  # the sequence of the picture told last
        self.encoded = 0
        self.keyframes = 0
        self.failed = 0

    @property
    def taken(self) -> TakenTime:
        """Of its pictures."""
        return self._clock.taken

    @property
    def sinks(self) -> int:
        return len(self._sinks)

    def follow(self, bit_rate: int) -> None:
        """bit/s from now on: at once where the codec can, within seconds where not."""
        self.bit_rate = min(bit_rate, self._most_bit_rate)
        self._encoder.bit_rate = self.bit_rate

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
        if sink not in self._sinks:
            return
        self._sinks.remove(sink)
        if not self._sinks:
            self._feed.leave(self._on_frame)
            self._encoder = self._new_encoder()  # opened when somebody comes

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
        elif not self._is_lower or time.monotonic() - self._encoded_s >= _LOWER_GAP_S:
            self._encode_latest()

    def _new_encoder(self) -> VideoEncoder:
        return VideoEncoder(self.codec, self._geometry, self.fps, self.bit_rate)

    def _encode_latest(self) -> None:
        if not self._feed.is_open:  # the session's lane is another's by now
            return
        frame = self._feed.latest
        now_s = time.monotonic()
        pts = self._clock.stamp(frame, frame.sequence == self._shown, now_s)
        self._shown = frame.sequence
        self._encoded_s = now_s
        keyframe = self._keyframes.is_due(now_s)
        if keyframe:
            self._keyframes.made(now_s)
        self._has_newer = False
        array = frame.array.copy() if self._is_lower else frame.array
        if not self._is_lower:
            frame.retain()
        loop = asyncio.get_running_loop()
        self._job = loop.run_in_executor(self._executor, self._encoder.encode, array, pts, keyframe)
        self._job.add_done_callback(partial(self._on_encoded, frame))

    def _on_encoded(
        self, frame: AvatarFrame, job: asyncio.Future[list[av.Packet[av.VideoStream]]]
    ) -> None:
        self._job = None
        if not self._is_lower:
            frame.release()
        try:
            packets = job.result()
        except (Exception, asyncio.CancelledError) as error:  # its owner: one frame less
            self._on_failed(error)
        else:
            self._failing = False
            self._send(packets)
            self._tell_age(frame)
        if self._closed or not self._sinks:
            return
        if self._has_newer and not self._is_lower:
            self._encode_latest()
        else:
            self._has_newer = False
            self._schedule_repeat()

    def _on_failed(self, error: BaseException) -> None:
        self.failed += 1
        if not self._failing:
            log.error("encoding failed: codec=%s error=%s", self.codec.value, error)
        self._failing = True
        self._encoder = self._new_encoder()
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

    def _tell_age(self, frame: AvatarFrame) -> None:
        """Of each picture once: a held one that is shown again has no age to go by."""
        if self.on_picture is None or frame.arrival_s is None or frame.sequence == self._told:
            return
        self._told = frame.sequence
        now_s = time.monotonic()
        self.on_picture(now_s - frame.arrival_s, now_s)

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
    """A session's renditions: one a codec, and a lower one beside it while somebody needs it."""

    def __init__(
        self, geometry: Geometry, feed: Feed, executor: ThreadPoolExecutor, fps: int = 30
    ) -> None:
        self._geometry = geometry
        self._feed = feed
        self._executor = executor
        self._fps = fps
        self._clock = SessionClock()
        self._open: dict[Codec, Rendition] = {}
        self._lower: dict[Codec, Rendition] = {}
        self._audiences: dict[Codec, Audience[Rendition]] = {}
        self.on_picture: PictureListener | None = None  # of every main rendition

    def get(self, codec: Codec) -> Rendition:
        """The session's main rendition in this codec."""
        if codec not in self._open:
            self._open[codec] = self._make(codec, self._fps, None, is_lower=False)
            self._open[codec].on_picture = self.on_picture
        return self._open[codec]

    def lower(self, codec: Codec, bit_rate: int) -> Rendition:
        """The one for who cannot keep up; it begins at this rate."""
        if codec not in self._lower:
            fps = min(self._fps, LOWER_FPS)
            self._lower[codec] = self._make(codec, fps, bit_rate, is_lower=True)
        return self._lower[codec]

    def drop_lower(self, codec: Codec) -> None:
        """Nobody follows it any more. It holds no slot that one would have to wait for."""
        self._lower.pop(codec, None)

    @property
    def lower_count(self) -> int:
        """How many lower ones are open."""
        return len(self._lower)

    def audience(self, codec: Codec) -> Audience[Rendition]:
        """All who watch in this codec."""
        if codec not in self._audiences:
            self._audiences[codec] = Audience(
                self.get(codec),
                bit_rate_for(self._geometry, self._fps),
                partial(self.lower, codec),
                partial(self.drop_lower, codec),
            )
        return self._audiences[codec]

    async def close(self) -> None:
        """Stop everybody who watches; returns when no slot is in use any more."""
        for audience in self._audiences.values():
            audience.close()
        for rendition in (*self._open.values(), *self._lower.values()):
            await rendition.close()

    def _make(self, codec: Codec, fps: int, bit_rate: int | None, *, is_lower: bool) -> Rendition:
        return Rendition(
            codec,
            self._geometry,
            self._feed,
            self._executor,
            fps,
            self._clock,
            bit_rate,
            is_lower,
        )
