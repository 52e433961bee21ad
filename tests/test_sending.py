"""Our hooks into aiortc's senders: each fails here when aiortc changes what it hooks into."""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCSessionDescription,
)
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    pack_remb_fci,
)
from media import accept, offer_of, until
from peers import peer

from stream import sending
from stream.pacing import STEP_S, Pace
from stream.rtc import close_quietly, new_connection


async def test_a_pli_reaches_the_callback_although_the_track_sends_packets() -> None:
    sender_side, asked = peer(), []
    transceiver = sender_side.addTransceiver("video", "sendonly")
    sending.on_keyframe_request(transceiver.sender, lambda: asked.append(1))
    pli = RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=transceiver.sender._ssrc)
    await transceiver.sender._handle_rtcp_packet(pli)
    assert asked == [1]
    await sender_side.close()


async def reported(*packets: AnyRtcpPacket) -> tuple[list[int], list[float]]:
    """What a sender's hook hears of these reports."""
    sender_side, estimates, losses = peer(), list[int](), list[float]()
    sender = sender_side.addTransceiver("video", "sendonly").sender
    sender._ssrc = 77
    sending.on_network_report(sender, estimates.append, losses.append)
    for packet in packets:
        await sender._handle_rtcp_packet(packet)
    await sender_side.close()
    return estimates, losses


async def test_a_remb_for_this_sender_reaches_the_callback_and_no_other() -> None:
    def remb(ssrc: int) -> RtcpPsfbPacket:
        fci = pack_remb_fci(300_000, [ssrc])
        return RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci)

    broken = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=b"REMX")
    estimates, losses = await reported(remb(78), broken, remb(77))
    assert estimates == pytest.approx([300_000], rel=0.01) and losses == []


async def test_the_fraction_lost_reaches_the_callback() -> None:
    def report(ssrc: int, lost: int) -> RtcpReceiverInfo:
        return RtcpReceiverInfo(
            ssrc=ssrc, fraction_lost=lost, packets_lost=9, highest_sequence=9, jitter=0, lsr=0,
            dlsr=0,
        )  # fmt: skip

    estimates, losses = await reported(
        RtcpRrPacket(ssrc=1, reports=[report(78, 9), report(77, 64)])
    )
    assert (estimates, losses) == ([], [0.25])


async def test_a_retransmission_that_is_not_allowed_is_not_sent() -> None:
    sender_side, asked, sent = peer(), list[int](), list[int]()
    sender = sender_side.addTransceiver("video", "sendonly").sender

    async def retransmit(sequence: int) -> None:
        sent.append(sequence)

    sender._retransmit = retransmit  # type: ignore[method-assign]
    sending.on_retransmission(sender, lambda it: asked.append(it) is None and it % 2 == 0)
    nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=sender._ssrc)
    nack.lost = [4, 5, 6]
    await sender._handle_rtcp_packet(nack)
    assert (asked, sent) == ([4, 5, 6], [4, 6])
    await sender_side.close()


async def test_the_packets_of_a_large_frame_wait_their_turn() -> None:
    """Through aiortc's own loop, to a real peer: a frame of some 30 packets, then a small one."""
    left: list[tuple[float, int]] = []  # when, RTP's second byte
    sizes: list[int] = []

    class Large(MediaStreamTrack):
        kind = "video"

        async def recv(self) -> av.Packet:
            await asyncio.sleep(0.2)
            packet = av.Packet(bytes(36_000 if len(sizes) % 2 == 0 else 3000))
            packet.pts, packet.time_base = 3000 * len(sizes), Fraction(1, 90_000)
            return packet

    def pace_of(packets: int) -> Pace | None:
        sizes.append(packets)
        return Pace(at_once=8, group=6) if packets > 8 else None

    viewer, ours = peer(), new_connection()
    viewer.addTransceiver("video", "recvonly")
    await ours.setRemoteDescription(RTCSessionDescription(await offer_of(viewer, "VP8"), "offer"))
    (transceiver,) = ours.getTransceivers()
    transceiver.direction = "sendonly"
    transceiver.sender.replaceTrack(Large())
    transport = transceiver.sender.transport
    send = transport._send_rtp

    async def watched(data: bytes) -> None:
        left.append((time.monotonic(), data[1]))
        await send(data)

    transport._send_rtp = watched  # type: ignore[method-assign]
    sending.pace(transceiver.sender, pace_of)
    await ours.setLocalDescription(await ours.createAnswer())
    await accept(viewer, ours.localDescription.sdp)
    await until(lambda: len(sizes) >= 3)
    rtp = [at_s for at_s, second in left if not 192 <= second <= 223]
    large, small = sizes[0], sizes[1]
    assert large > 20 and small < 8
    gaps = [b - a for a, b in pairwise(rtp[:large])]
    assert all(gap >= 0.9 * STEP_S for gap in gaps[7::6])
    await close_quietly(ours)
    await viewer.close()
