"""Encoded frames in, pictures straight into a lane, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import av
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from stream.jitter import EncodedFrame
from stream.timestamps import WIRE_TIME_BASE

log = logging.getLogger(__name__)

BACKLOG_S = 0.3  # older than this the queue is given up, up to the next keyframe
BACKLOG_FRAMES = 64

_DECODERS = {"H264": "h264", "VP8": "vp8"}


class Pictures(Protocol):
    """Where decoded pictures go: a `LaneInbox`."""

    def put(self, frame: av.VideoFrame, arrival_s: float) -> None: ...


class VideoDecoder:
    """Decodes a stream in order, never more than a bounded time behind it.

    `on_broken` is called, from either thread, when nothing before the next keyframe can be
    decoded: a frame did not decode, or the backlog was dropped (a frame left out would smear
    all that follow it).
    """

    def __init__(self, pictures: Pictures, on_broken: Callable[[], None]) -> None:
        self._pictures = pictures
        self._on_broken = on_broken
        self._queue: deque[EncodedFrame] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.skipped = 0  # encoded frames dropped for the backlog
        self.failed = 0  # frames that did not decode
        self.high_water_frames = 0

    def put(self, frame: EncodedFrame, now_s: float) -> None:
        """Queue a frame; returns at once."""
        with self._changed:
            if self._closed:
                return
            if self._overdue(now_s):
                self.skipped += len(self._queue)
                self._queue.clear()
                if not frame.keyframe:
                    self.skipped += 1
                    self._on_broken()
                    return
            self._queue.append(frame)
            self.high_water_frames = max(self.high_water_frames, len(self._queue))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """No picture that is not being decoded now is handed on; the thread ends by itself.

        It is not joined: that would hold the event loop for as long as a frame takes.
        """
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify()

    def _overdue(self, now_s: float) -> bool:
        if not self._queue:
            return False
        return now_s - self._queue[0].arrival_s > BACKLOG_S or len(self._queue) >= BACKLOG_FRAMES

    def _run(self) -> None:
        try:
            context: VideoCodecContext | None = None
            while (frame := self._take()) is not None:
                if context is None or context.name != _DECODERS[frame.codec]:
                    context = open_decoder(frame.codec)
                self._decode(context, frame)
        except Exception:  # the thread's owner: a bug ends this decoder, and is told
            log.exception("a decoder ended")
            self.close()

    def _take(self) -> EncodedFrame | None:
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            return None if self._closed else self._queue.popleft()

    def _decode(self, context: VideoCodecContext, frame: EncodedFrame) -> None:
        packet = av.Packet(frame.data)
        packet.pts = frame.timestamp
        packet.time_base = WIRE_TIME_BASE
        try:
            pictures = context.decode(packet)
        except av.FFmpegError:
            self.failed += 1
            self._on_broken()
            return
        for picture in pictures:
            self._pictures.put(picture, frame.arrival_s)


def open_decoder(codec: str) -> VideoCodecContext:
    """A decoder that answers each frame at once: one thread, no reordering.

    Raises KeyError for a codec other than "H264" and "VP8".
    """
    context = av.CodecContext.create(_DECODERS[codec], "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.flags |= Flags.low_delay
    return context
