"""Our hooks into aiortc: each fails here when aiortc changes what it hooks into."""

import asyncio
import random
import socket
import time
from fractions import Fraction
from itertools import pairwise

import aiortc.rtcrtpreceiver as aiortc_receiver
import av
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCIceCandidate,
    RTCPeerConnection,
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
from aiortc.sdp import SessionDescription
from media import accept, nothing_left, offer_of, until
from peers import Performer, peer

from stream import rtc
from stream.network import IceServer, Network, Ports
from stream.pacing import STEP_S, Pace
from stream.rtc import VideoReceiving, close_quietly, new_connection
from workers.errors import ServerFull


class Gallery:
    """Keeps what is put; `slow_s` is how long that takes."""

    def __init__(self, slow_s: float = 0.0) -> None:
        self.slow_s = slow_s
        self.put_at: list[tuple[int, float, float]] = []  # pts, arrival, when it was put

    def put(self, frame: av.VideoFrame, arrival_s: float) -> None:
        time.sleep(self.slow_s)
        assert frame.pts is not None
        self.put_at.append((frame.pts, arrival_s, time.monotonic()))


async def received(
    publisher: RTCPeerConnection, gallery: Gallery, codec: str
) -> tuple[RTCPeerConnection, VideoReceiving]:
    """A connection of ours that receives what the publisher sends."""
    ours = new_connection()
    offer = await offer_of(publisher, codec)
    await ours.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    (transceiver,) = ours.getTransceivers()
    receiving = VideoReceiving(transceiver, gallery)
    rtc.answer_passively(transceiver)
    await ours.setLocalDescription(await ours.createAnswer())
    await accept(publisher, ours.localDescription.sdp)
    return ours, receiving


def drop_some(connection: RTCPeerConnection, loss: float, retransmits: bool) -> list[int]:
    """Loses packets on their way in; the count of those lost grows in the list given back."""
    receiver = connection.getReceivers()[0]
    real, dice, lost = receiver._handle_rtp_packet, random.Random(3), [0]

    async def lossy(packet, arrival_time_ms):  # type: ignore[no-untyped-def]
        is_first_try = packet.payload_type == next(iter(rtc.codecs_of(
            connection.getTransceivers()[0])))  # fmt: skip
        if (is_first_try or not retransmits) and dice.random() < loss:
            lost[0] += 1
            return
        await real(packet, arrival_time_ms=arrival_time_ms)

    receiver._handle_rtp_packet = lossy  # type: ignore[method-assign]
    return lost


@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_frames_are_decoded_at_their_marker_in_our_thread_and_aiortcs_ends(
    codec: str,
) -> None:
    async with nothing_left():
        publisher, gallery = peer(), Gallery()
        publisher.addTransceiver(Performer("red", 10), "sendonly")
        ours, receiving = await received(publisher, gallery, codec)
        await until(lambda: len(gallery.put_at) >= 8)
        # aiortc's buffer would hold each for the frame's interval, 100 ms.
        ages = sorted(put_s - arrival_s for _, arrival_s, put_s in gallery.put_at)
        assert ages[len(ages) // 2] < 0.03
        decoder = ours.getReceivers()[0]._RTCRtpReceiver__decoder_thread  # type: ignore[attr-defined]
        assert not decoder.is_alive()
        receiving.close()
        await close_quietly(ours)
        await publisher.close()


@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_at_five_percent_loss_without_retransmission_the_picture_comes_back(
    codec: str,
) -> None:
    publisher, gallery = peer(), Gallery()
    publisher.addTransceiver(Performer("red", 30, 640, 480), "sendonly")
    ours, receiving = await received(publisher, gallery, codec)
    lost = drop_some(ours, 0.05, retransmits=False)
    await asyncio.sleep(5)
    assert lost[0] > 3
    assert receiving.decoder.failed == 0
    put = [put_s for *_, put_s in gallery.put_at]
    assert len(put) > 30
    assert time.monotonic() - put[-1] < 1.5
    receiving.close()
    await close_quietly(ours)
    await publisher.close()


async def test_with_retransmission_a_lost_packet_costs_no_frame() -> None:
    publisher, gallery = peer(), Gallery()
    publisher.addTransceiver(Performer("red", 30, 640, 480), "sendonly")
    ours, receiving = await received(publisher, gallery, "VP8")
    await until(lambda: len(gallery.put_at) > 0)
    lost = drop_some(ours, 0.05, retransmits=True)
    await asyncio.sleep(3)
    assert lost[0] > 3
    assert receiving.buffer.lost_frames <= 2
    assert len(gallery.put_at) > 70
    receiving.close()
    await close_quietly(ours)
    await publisher.close()


async def test_a_decoder_that_cannot_keep_up_stays_within_its_backlog() -> None:
    publisher, gallery = peer(), Gallery(slow_s=0.1)
    publisher.addTransceiver(Performer("red", 30), "sendonly")
    ours, receiving = await received(publisher, gallery, "VP8")
    await asyncio.sleep(4)
    ages = [put_s - arrival_s for _, arrival_s, put_s in gallery.put_at]
    assert receiving.decoder.skipped > 10
    assert receiving.decoder.failed == 0
    assert max(ages) < 0.3 + 0.25
    assert len(ages) > 12
    receiving.close()
    await close_quietly(ours)
    await publisher.close()


async def test_a_pli_reaches_the_callback_although_the_track_sends_packets() -> None:
    sender_side, asked = peer(), []
    transceiver = sender_side.addTransceiver("video", "sendonly")
    rtc.on_keyframe_request(transceiver.sender, lambda: asked.append(1))
    pli = RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=transceiver.sender._ssrc)
    await transceiver.sender._handle_rtcp_packet(pli)
    assert asked == [1]
    await sender_side.close()


async def reported(*packets: AnyRtcpPacket) -> tuple[list[int], list[float]]:
    """What a sender's hook hears of these reports."""
    sender_side, estimates, losses = peer(), list[int](), list[float]()
    sender = sender_side.addTransceiver("video", "sendonly").sender
    sender._ssrc = 77
    rtc.on_network_report(sender, estimates.append, losses.append)
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
    rtc.on_retransmission(sender, lambda it: asked.append(it) is None and it % 2 == 0)
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
    rtc.pace(transceiver.sender, pace_of)
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


async def test_the_answer_is_passive_although_aiortc_chooses_active() -> None:
    publisher, ours = peer(), new_connection()
    publisher.addTransceiver("video", "sendonly")
    await ours.setRemoteDescription(RTCSessionDescription(await offer_of(publisher), "offer"))
    assert "a=setup:active" in (await ours.createAnswer()).sdp
    rtc.answer_passively(ours.getTransceivers()[0])
    assert "a=setup:passive" in (await ours.createAnswer()).sdp
    await close_quietly(ours)
    await publisher.close()


async def test_no_public_stun_server_is_asked() -> None:
    ours = new_connection()
    ours.addTransceiver("video")
    (ice,) = rtc._private(ours, "__iceTransports")
    assert ice._connection.stun_server is None and ice._connection.turn_server is None
    await close_quietly(ours)


async def test_a_connection_whose_offer_failed_half_way_is_closed_whole() -> None:
    publisher = peer()
    publisher.addTransceiver("video", "sendonly")
    publisher.addTransceiver("audio", "sendonly")
    offer = (await offer_of(publisher)).replace("BUNDLE 0 1", "BUNDLE 7 0 1")
    async with nothing_left():
        ours = new_connection()
        with pytest.raises(Exception):  # noqa: B017 - whatever aiortc raises
            await ours.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await ours.setLocalDescription(await ours.createAnswer())
        await close_quietly(ours)
        await close_quietly(ours)
    await publisher.close()


async def test_a_connection_to_nobody_closes_within_a_second() -> None:
    publisher = peer()
    publisher.addTransceiver("video", "sendonly")
    offer = "".join(
        line for line in (await offer_of(publisher)).splitlines(True) if "candidate" not in line
    )
    async with nothing_left():
        ours, receiving = new_connection(), None
        await ours.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        receiving = VideoReceiving(ours.getTransceivers()[0], Gallery())
        await ours.setLocalDescription(await ours.createAnswer())
        await asyncio.sleep(0.1)
        began = time.monotonic()
        receiving.close()
        await close_quietly(ours)
        assert time.monotonic() - began < 1.0
    await publisher.close()


def test_what_we_replace_is_there_to_be_replaced() -> None:
    with pytest.raises(AttributeError):
        rtc._replace(object(), "_RTCRtpReceiver__jitter_buffer", None)
    source = aiortc_receiver.__dict__["RTCRtpReceiver"]
    assert source._handle_rtp_packet.__code__.co_names.count("add") == 1


async def gathered(network: Network) -> list[RTCIceCandidate]:
    """What a connection of ours tells a publisher of."""
    publisher, ours = peer(), new_connection(network.ice_servers)
    publisher.addTransceiver("video", "sendonly")
    try:
        await ours.setRemoteDescription(RTCSessionDescription(await offer_of(publisher), "offer"))
        rtc.gather_by(ours, network)
        await ours.setLocalDescription(await ours.createAnswer())
        (media,) = SessionDescription.parse(ours.localDescription.sdp).media
        return list(media.ice_candidates)
    finally:
        await close_quietly(ours)
        await publisher.close()


async def test_ports_come_from_the_range_and_none_free_is_a_full_server() -> None:
    async with nothing_left():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            own = (await gathered(Network()))[0].ip
            taken.bind((own, 0))
            port = taken.getsockname()[1]
            with pytest.raises(ServerFull, match=f"{port}-{port} are in use"):
                await gathered(Network(udp_ports=Ports(port, port)))
        found = await gathered(Network(udp_ports=Ports(port, port)))
        assert {it.port for it in found} == {port}


async def test_an_announced_address_is_told_with_the_port_beside_the_real_one() -> None:
    found = await gathered(Network(announce=("198.51.100.7",)))
    ports = {it.port for it in found if ":" not in it.ip and it.ip != "198.51.100.7"}
    assert ports and {it.port for it in found if it.ip == "198.51.100.7"} == ports


async def test_a_stun_server_that_is_silent_holds_an_answer_for_a_moment_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = IceServer(f"stun:127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(4):
            found = await gathered(Network(ice_servers=(server,)))
        assert found and {it.type for it in found} == {"host"}
