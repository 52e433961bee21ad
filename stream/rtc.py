"""All that touches aiortc's private names; each use has a test that fails when aiortc changes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from aiortc import (
    RTCConfiguration,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
)
from aiortc.rtp import RtpPacket

from stream.decoder import Pictures, VideoDecoder
from stream.jitter import MarkerBuffer, Part

CLOSE_S = 0.5  # for aiortc's own close, and again for what that left


def new_connection() -> RTCPeerConnection:
    """A connection that asks no STUN server: without a configuration aiortc asks a public one."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def codecs_of(transceiver: RTCRtpTransceiver) -> dict[int, str]:
    """The agreed codecs by payload type, in the order in which the peer prefers them."""
    return {
        codec.payloadType: codec.name
        for codec in transceiver._codecs
        if codec.payloadType is not None and codec.name.lower() != "rtx"
    }


def peer_receives(transceiver: RTCRtpTransceiver) -> bool:
    """Whether the offer asks for our video in this section."""
    return transceiver._offerDirection in ("sendonly", "sendrecv")  # as seen from here


def answer_passively(transceiver: RTCRtpTransceiver) -> None:
    """Answer `setup:passive`, where aiortc's own choice is `active`; before `createAnswer`."""
    transceiver.receiver.transport._set_role("server")


def on_keyframe_request(sender: RTCRtpSender, callback: Callable[[], None]) -> None:
    """Call back at each PLI and FIR: aiortc itself heeds them for its own encoders alone."""
    _replace(sender, "_send_keyframe", callback)


class VideoReceiving:
    """Our way in place of aiortc's from RTP packets to pictures; before the answer is applied.

    aiortc's waits for the next frame to hand on one, stops at a loss, queues without bound, takes
    each picture over the event loop, and holds that while it joins its decoder's thread.
    """

    def __init__(self, transceiver: RTCRtpTransceiver, pictures: Pictures) -> None:
        self.decoder = VideoDecoder(pictures, lambda: self.buffer.require_keyframe())
        self.buffer = MarkerBuffer(lambda frame: self.decoder.put(frame, time.monotonic()))
        receiver = transceiver.receiver
        packets = _PacketsInPlace(codecs_of(transceiver), self.buffer)
        _replace(receiver, "_RTCRtpReceiver__jitter_buffer", packets)
        _replace(receiver, "_RTCRtpReceiver__decoder_queue", _NothingToDecode())

    def close(self) -> None:
        """No picture comes after this but the one in work. Joins nothing."""
        self.decoder.close()


class _PacketsInPlace:
    """Has the face of aiortc's JitterBuffer, and gives its caller no frame."""

    def __init__(self, codecs: dict[int, str], buffer: MarkerBuffer) -> None:
        self._codecs = codecs
        self._buffer = buffer

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """True: aiortc shall send a PLI."""
        now_s = time.monotonic()
        codec = self._codecs.get(packet.payload_type)
        if codec is None:
            return False, None
        part = Part(
            ssrc=packet.ssrc,
            sequence=packet.sequence_number,
            timestamp=packet.timestamp,
            marker=bool(packet.marker),
            codec=codec,
            payload=packet.payload,
            data=packet._data,  # type: ignore[attr-defined]  # the receiver sets it
            arrival_s=now_s,
        )
        return self._buffer.add(part, now_s), None


class _NothingToDecode:
    """Has the face of the queue that aiortc's decoder thread reads: the thread ends at once."""

    def get(self) -> None:
        return None

    def put(self, task: object) -> None:
        """At the stream's end aiortc puts None, for a thread that has ended long ago."""
        assert task is None


async def close_quietly(connection: RTCPeerConnection) -> None:
    """Closes it and all that it opened, in whatever state it is, within a second.

    aiortc's own close raises after a `setRemoteDescription` that failed half way, and leaves the
    sockets open; and a connection that is just coming about goes on behind its back.
    """
    with contextlib.suppress(Exception):  # what it left is closed below
        async with asyncio.timeout(CLOSE_S):
            await connection.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await asyncio.gather(*_leftovers(connection), return_exceptions=True)


def _leftovers(connection: RTCPeerConnection) -> Iterator[Coroutine[Any, Any, None]]:
    # Any: what a coroutine yields to its loop.
    for transport in _private(connection, "__dtlsTransports"):
        yield transport.stop()
    for transport in _private(connection, "__iceTransports"):
        yield _end_ice(transport)
    for transceiver in connection.getTransceivers():
        yield transceiver.receiver.stop()
        yield transceiver.sender.stop()


async def _end_ice(transport: RTCIceTransport) -> None:
    """aioice's `connect` looks up each 20 ms; closed meanwhile, it still asks for consent for ever
    when its checks had succeeded. So let it come to its end, then close once more."""
    await transport.stop()
    started: asyncio.Event | None = getattr(transport, "_RTCIceTransport__start")  # noqa: B009
    if started is not None:
        await started.wait()
    await transport._connection.close()


def _private(connection: RTCPeerConnection, name: str) -> set[Any]:
    found: set[Any] = getattr(connection, f"_RTCPeerConnection{name}")  # Any: of aiortc's inside
    return found


def _replace(of: object, name: str, by: object) -> None:
    getattr(of, name)  # AttributeError: aiortc has changed
    setattr(of, name, by)
