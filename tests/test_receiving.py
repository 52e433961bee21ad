"""Our way in place of aiortc's from packets to pictures: it fails here when aiortc changes."""

from __future__ import annotations

import random
import time

import aiortc.rtcrtpreceiver as aiortc_receiver
import av
import pytest
from aiortc import (
    RTCPeerConnection,
    RTCSessionDescription,
)
from media import accept, nothing_left, offer_of, until
from peers import Performer, peer

from stream import rtc
from stream.receiving import VideoReceiving
from stream.rtc import close_quietly, new_connection


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
        assert ages[len(ages) // 2] < 0.06
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
    await until(lambda: lost[0] > 3 and len(gallery.put_at) > 30, 15)
    known = len(gallery.put_at)
    await until(lambda: len(gallery.put_at) > known + 10)
    assert receiving.decoder.failed == 0
    receiving.close()
    await close_quietly(ours)
    await publisher.close()


async def test_with_retransmission_a_lost_packet_costs_no_frame() -> None:
    publisher, gallery = peer(), Gallery()
    publisher.addTransceiver(Performer("red", 30, 640, 480), "sendonly")
    ours, receiving = await received(publisher, gallery, "VP8")
    await until(lambda: len(gallery.put_at) > 0)
    lost = drop_some(ours, 0.05, retransmits=True)
    await until(lambda: lost[0] > 3 and len(gallery.put_at) > 70, 15)
    assert receiving.buffer.lost_frames <= 2
    receiving.close()
    await close_quietly(ours)
    await publisher.close()


async def test_a_decoder_that_cannot_keep_up_stays_within_its_backlog() -> None:
    publisher, gallery = peer(), Gallery(slow_s=0.1)
    publisher.addTransceiver(Performer("red", 30), "sendonly")
    ours, receiving = await received(publisher, gallery, "VP8")
    await until(lambda: receiving.decoder.skipped > 10 and len(gallery.put_at) > 30, 10)
    ages = [put_s - arrival_s for _, arrival_s, put_s in gallery.put_at]
    assert receiving.decoder.failed == 0
    assert max(ages) < 1.0  # without a bound the last would be two seconds behind
    receiving.close()
    await close_quietly(ours)
    await publisher.close()


def test_aiortc_hands_packets_to_what_we_put_in_its_buffers_place_alone() -> None:
    source = aiortc_receiver.__dict__["RTCRtpReceiver"]
    assert source._handle_rtp_packet.__code__.co_names.count("add") == 1
