"""A camera over RTSP, read and decoded in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable

import av
from av.container import InputContainer

from stream.lane import LaneInbox
from workers.errors import SourceError

log = logging.getLogger(__name__)

OPEN_S = 5.0
READ_S = 3.0
RECONNECT_S = 2.0

_OPTIONS = {
    "rtsp_transport": "tcp",
    "allowed_media_types": "video",
    "analyzeduration": "1000000",  # µs at most
    "fpsprobesize": "0",  # the size is enough: the rate would take a second to guess
}

# What FFmpeg makes of its time being over: before the camera's first word, "invalid data".
_CUT_SHORT = (av.InvalidDataError, av.ExitError, av.TimeoutError)

CameraListener = Callable[[str | None], None]


class RtspSource:
    """A camera's frames into a lane, opened again two seconds after every end.

    `on_camera` hears, on the event loop, why the camera was lost, and None when it is back.
    """

    def __init__(self, url: str, inbox: LaneInbox, on_camera: CameraListener) -> None:
        """Raises SourceError for what is no rtsp:// or rtsps:// URL."""
        if not re.match(r"rtsps?://[^/\s]", url, re.IGNORECASE):
            raise SourceError(f"{without_credentials(url)!r} is no rtsp:// or rtsps:// URL")
        self._url = url
        self._inbox = inbox
        self._on_camera = on_camera
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtsp", daemon=True)
        self._is_lost = False

    def start(self) -> None:
        """Begin to read, on the running loop's behalf."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """No frame comes after this. Returns at once; the thread ends within its timeouts."""
        self._stopping.set()
        self._inbox.close()

    @property
    def has_ended(self) -> bool:
        """Whether the thread is gone."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._play()
                reason = "the camera ended its stream"
            except (av.FFmpegError, SourceError, OSError) as error:
                reason = _said(error)
            except Exception:  # the thread's owner: a bug is told, and the camera tried again
                log.exception("reading a camera failed")
                reason = "an error of ours"
            if not self._stopping.is_set() and not self._is_lost:
                self._is_lost = True
                self._tell(reason)
            self._stopping.wait(RECONNECT_S)

    def _play(self) -> None:
        with _open(self._url) as container:
            if not container.streams.video:
                raise SourceError("the camera sends no video")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                arrival_s = time.monotonic()
                for frame in _decoded(packet):
                    if self._stopping.is_set():
                        return
                    self._inbox.put(frame, arrival_s)
                    if self._is_lost:
                        self._is_lost = False
                        self._tell(None)

    def _tell(self, reason: str | None) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended before us
            self._loop.call_soon_threadsafe(self._on_camera, reason)


def _open(url: str) -> InputContainer:
    """Raises SourceError for a camera that is silent, FFmpegError for other troubles."""
    began_s = time.monotonic()
    try:
        # `timeout` is the only one that FFmpeg's RTSP heeds; without it a read blocks for ever.
        return av.open(url, timeout=(OPEN_S, READ_S), options=_OPTIONS)
    except _CUT_SHORT as error:
        if time.monotonic() - began_s < OPEN_S:
            raise
        raise SourceError(f"the camera did not answer within {OPEN_S:g} s") from error


def _decoded(packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
    """A packet's frames; one that is broken has none, and the stream goes on."""
    try:
        return packet.decode()
    except av.InvalidDataError:
        return []


def _said(error: BaseException) -> str:
    """The reason without the URL that FFmpeg adds to it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return without_credentials(str(text))


def without_credentials(text: str) -> str:
    """The text with no user name or password before a host."""
    return re.sub(r"(\w+://)\S*@", r"\1", text)
