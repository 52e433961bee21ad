"""From RTP packets to pictures and sound, our way in place of aiortc's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from aiortc import RTCRtpTransceiver
from aiortc.rtp import RtpPacket

from stream import inside
from stream.audio import OpusPacket
from stream.decoder import Pictures, VideoDecoder
from stream.jitter import MarkerBuffer, Part, Wish
from stream.rtc import codecs_of

HELD_UP_S = 0.02


class VideoReceiving:
    """Our way in place of aiortc's from RTP packets to pictures; before the answer is applied.

    aiortc's waits for the next frame to hand on one, stops at a loss, queues without bound, takes
    each picture over the event loop, and holds that while it joins its decoder's thread.
    """

    def __init__(self, transceiver: RTCRtpTransceiver, pictures: Pictures) -> None:
        self.decoder = VideoDecoder(pictures, self._broken)
        self.buffer = MarkerBuffer(
            lambda frame: self.decoder.put(frame, time.monotonic()),
            retransmits=_retransmits(transceiver),
        )
        self._loop = asyncio.get_running_loop()
        self._receiver = transceiver.receiver
        self._timer: asyncio.TimerHandle | None = None
        self._due_s: float | None = None  # when it rings
        self._hears_first = False
        self._asking: set[asyncio.Task[None]] = set()
        self._closed = False
        packets = _PacketsInPlace(codecs_of(transceiver), self._add)
        inside.replace(self._receiver, "_RTCRtpReceiver__jitter_buffer", packets)
        inside.replace(self._receiver, "_RTCRtpReceiver__nack_generator", _NothingMissing())
        inside.replace(self._receiver, "_RTCRtpReceiver__decoder_queue", _NothingToDecode())

    def close(self) -> None:
        """No picture comes after this but the one in work. Joins nothing."""
        self._closed = True
        self.decoder.close()
        if self._timer is not None:
            self._timer.cancel()
        for asking in self._asking:
            asking.cancel()

    def _add(self, part: Part) -> None:
        self.buffer.add(part, part.arrival_s)
        self._look()

    def _broken(self) -> None:
        """From either thread."""
        self.buffer.require_keyframe()
        with contextlib.suppress(RuntimeError):  # the loop has ended before the decoder's thread
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """Ask for what the buffer lacks, and look again when it says so though nothing comes."""
        if self._closed:
            return
        now_s = time.monotonic()
        if self._due_s is not None and now_s > self._due_s + HELD_UP_S and not self._hears_first:
            # The loop was held up: what we would ask for may have come, and be heard in a moment.
            self._hears_first = True
            self._look_at(now_s + HELD_UP_S, now_s)
            return
        if self._hears_first and self._due_s is not None and now_s < self._due_s:
            return
        self._hears_first = False
        wish = self.buffer.wish(now_s)
        if wish.keyframe or wish.missing:
            asking = self._loop.create_task(self._ask(wish))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        self._look_at(self.buffer.due_s, now_s)

    def _look_at(self, due_s: float | None, now_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = None if due_s is None else self._loop.call_later(due_s - now_s, self._look)

    async def _ask(self, wish: Wish) -> None:
        ssrc = self.buffer.ssrc
        assert ssrc is not None, "nothing is missed before the first packet"
        if wish.missing:
            await self._receiver._send_rtcp_nack(ssrc, sorted(wish.missing))
        if wish.keyframe:
            await self._receiver._send_rtcp_pli(ssrc)


class AudioReceiving:
    """Opus packets as they come in place of aiortc's sound; before the answer is applied.

    aiortc's waits for a few of them, stumbles at a loss, and decodes in a thread.
    """

    def __init__(self, transceiver: RTCRtpTransceiver, hear: Callable[[OpusPacket], None]) -> None:
        self._passing = _Passing(hear)
        receiver = transceiver.receiver
        inside.replace(receiver, "_RTCRtpReceiver__jitter_buffer", self._passing)
        inside.replace(receiver, "_RTCRtpReceiver__decoder_queue", _NothingToDecode())

    def close(self) -> None:
        """No packet comes after this."""
        self._passing.hear = None


class _Passing:
    """Has the face of aiortc's JitterBuffer, holds nothing, and gives its caller no frame."""

    def __init__(self, hear: Callable[[OpusPacket], None]) -> None:
        self.hear: Callable[[OpusPacket], None] | None = hear

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        if self.hear is not None and packet.payload:
            now_s = time.monotonic()
            self.hear(OpusPacket(packet.ssrc, packet.timestamp, packet.payload, now_s))
        return False, None


class _PacketsInPlace:
    """Has the face of aiortc's JitterBuffer, and gives its caller no frame."""

    def __init__(self, codecs: dict[int, str], add: Callable[[Part], None]) -> None:
        self._codecs = codecs
        self._add = add

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """False: aiortc shall send no PLI, for we do."""
        codec = self._codecs.get(packet.payload_type)
        if codec is not None:
            part = Part(
                ssrc=packet.ssrc,
                sequence=packet.sequence_number,
                timestamp=packet.timestamp,
                marker=bool(packet.marker),
                codec=codec,
                payload=packet.payload,
                data=packet._data,  # type: ignore[attr-defined]  # the receiver sets it
                arrival_s=time.monotonic(),
            )
            self._add(part)
        return False, None


class _NothingMissing:
    """Has the face of aiortc's NackGenerator, which asks once for each packet and never again."""

    def add(self, packet: RtpPacket) -> bool:
        return False


class _NothingToDecode:
    """Has the face of the queue that aiortc's decoder thread reads: the thread ends at once."""

    def get(self) -> None:
        return None

    def put(self, task: object) -> None:
        """At the stream's end aiortc puts None, for a thread that has ended long ago."""
        assert task is None


def _retransmits(transceiver: RTCRtpTransceiver) -> bool:
    """Whether the peer says that it sends again what we miss (RFC 4585, section 4.2)."""
    return any(
        feedback.type == "nack" and not feedback.parameter
        for codec in transceiver._codecs
        for feedback in codec.rtcpFeedback
    )
