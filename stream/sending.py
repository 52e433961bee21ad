"""What aiortc's senders do at our word: keyframes, reports, retransmissions, and the pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiortc import RTCDtlsTransport, RTCRtpCodecParameters, RTCRtpSender
from aiortc.rtcrtpsender import RTCEncodedFrame
from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpSrPacket,
    unpack_remb_fci,
)

from stream import inside
from stream.audio import OPUS_TIME_BASE, AudioPacket
from stream.pacing import STEP_S, Pace
from stream.steady import SteadyTime


def on_keyframe_request(sender: RTCRtpSender, callback: Callable[[], None]) -> None:
    """Call back at each PLI and FIR: aiortc itself heeds them for its own encoders alone."""
    inside.replace(sender, "_send_keyframe", callback)


def steady_reports(sender: RTCRtpSender, time_of: SteadyTime) -> None:
    """Its sender reports tell when media were taken, not when the last packet was sent."""
    send = sender._send_rtcp

    async def corrected(packets: list[AnyRtcpPacket]) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and packet.sender_info.ntp_timestamp:
                packet.sender_info.ntp_timestamp += int(time_of.correction_s * 2**32)
                # What the peer will quote, by which aiortc knows the round trip.
                lsr = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
                inside.replace(sender, "_RTCRtpSender__lsr", lsr)
        await send(packets)

    inside.replace(sender, "_send_rtcp", corrected)


def on_network_report(
    sender: RTCRtpSender, estimate: Callable[[int], None], loss: Callable[[float], None]
) -> None:
    """Call back with each REMB's bit/s, and with each report's fraction lost, 0 to 1.

    aiortc tells a REMB to its own encoders alone, and losses to nobody.
    """
    handle = sender._handle_rtcp_packet

    async def heard(packet: AnyRtcpPacket) -> None:
        match packet:
            case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP:
                with contextlib.suppress(ValueError):  # another application's, or a broken one
                    bit_rate, ssrcs = unpack_remb_fci(packet.fci)
                    if sender._ssrc in ssrcs:
                        estimate(bit_rate)
            case RtcpRrPacket() | RtcpSrPacket():
                for report in packet.reports:
                    if report.ssrc == sender._ssrc:
                        loss(report.fraction_lost / 256)
        await handle(packet)

    inside.replace(sender, "_handle_rtcp_packet", heard)


def on_retransmission(sender: RTCRtpSender, allows: Callable[[int], bool]) -> None:
    """Ask, for each packet that the peer wants again, by its sequence number."""
    retransmit = sender._retransmit

    async def asked(sequence_number: int) -> None:
        if allows(sequence_number):
            await retransmit(sequence_number)

    inside.replace(sender, "_retransmit", asked)


def pace(sender: RTCRtpSender, pace_of: Callable[[int], Pace | None]) -> None:
    """Ask, for each frame of so many packets, how they leave; when the transports are settled."""
    paced = _PacedTransport(sender.transport)
    next_frame = sender._next_encoded_frame

    async def begun(codec: RTCRtpCodecParameters) -> RTCEncodedFrame | None:
        frame = await next_frame(codec)
        paced.begin(None if frame is None else pace_of(len(frame.payloads)))
        return frame

    inside.replace(sender, "_next_encoded_frame", begun)
    inside.replace(sender, "_RTCRtpSender__transport", paced)


class _PacedTransport:
    """A transport as one sender sees it: the packets of its large frames wait their turn.

    Reports and retransmissions, which other tasks send, do not.
    """

    def __init__(self, transport: RTCDtlsTransport) -> None:
        self._transport = transport
        self._pace: Pace | None = None
        self._packet = 0
        self._task: asyncio.Task[Any] | None = None  # Any: whatever it returns

    def __getattr__(self, name: str) -> Any:  # Any: all else is the transport's own
        return getattr(self._transport, name)

    def begin(self, pace: Pace | None) -> None:
        """From the sender's task, before a frame."""
        self._pace, self._packet, self._task = pace, 0, asyncio.current_task()

    async def _send_rtp(self, data: bytes) -> None:
        if self._pace is not None and asyncio.current_task() is self._task:
            if self._pace.waits_before(self._packet):
                await asyncio.sleep(STEP_S)
            self._packet += 1
        await self._transport._send_rtp(data)


def pass_opus(sender: RTCRtpSender) -> None:
    """The sender's track has Opus packets already: it needs no encoder of aiortc's."""
    inside.replace(sender, "_RTCRtpSender__encoder", _Packed())


class _Packed:
    """Has the face of aiortc's OpusEncoder, for packets alone."""

    def pack(self, packet: AudioPacket) -> tuple[list[bytes], int]:
        assert packet.pts is not None and packet.time_base == OPUS_TIME_BASE
        return [bytes(packet)], packet.pts
