"""A publisher over a network that loses packets: what arrives is intact, and goes on arriving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiortc import RTCRtpTransceiver, RTCSessionDescription
from aiortc.rtp import RtpPacket
from losses import FPS, Clip, Gallery, play
from media import nothing_left, offer_of, until
from peers import peer

from stream import rtc
from stream.receiving import VideoReceiving
from stream.rtc import close_quietly, new_connection


@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_no_frame_smears_none_is_lost_where_it_is_sent_again_and_none_is_the_last(
    codec: str,
) -> None:
    clip = Clip()
    bare, harsh, again = await asyncio.gather(
        play(0.03, 6, codec, seed=2, clip=clip),
        play(0.05, 6, codec, seed=3, clip=clip),
        play(0.03, 6, codec, retransmits=True, seed=4, clip=clip),
    )
    for played in (bare, harsh, again):
        assert played.lost_packets > 3
        assert played.smeared == 0
        assert played.is_in_order
    assert again.share > 0.9  # all of them where the machine is not overloaded: scripts/show_loss
    assert 0.3 < bare.share < again.share
    for played in (bare, harsh):
        assert played.asked > 0
        assert 0 < played.longest_gap_frames < 3 * FPS


async def test_a_loss_is_asked_for_though_nothing_comes_after_it_and_closing_ends_that() -> None:
    async with receiving() as it:
        it.receive(1)
        it.receive(3, b"\1")
        await until(lambda: it.asked.count("keyframe") == 3)
        assert [2] in it.asked
        it.ours.close()
        known = len(it.asked)
        await asyncio.sleep(0.4)
        assert len(it.asked) == known


async def test_what_came_while_the_loop_was_held_up_is_heard_before_it_is_given_up() -> None:
    async with receiving() as it:
        it.receive(1)
        assert it.ours.buffer.due_s is None
        it.receive(3)
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is held up
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the timer has rung
        it.receive(2)
        await until(lambda: it.ours.buffer.due_s is None)
        assert it.ours.buffer.lost_frames == 0 and "keyframe" not in it.asked


@dataclass
class Receiving:
    """Our receiver, given packets by hand: each a whole frame of VP8."""

    ours: VideoReceiving
    transceiver: RTCRtpTransceiver
    asked: list[object] = field(default_factory=list)

    def receive(self, sequence: int, data: bytes = b"\0") -> None:
        """data: by its first bit no keyframe."""
        (payload_type,) = rtc.codecs_of(self.transceiver)
        packet = RtpPacket(payload_type, 1, sequence_number=sequence, timestamp=sequence * 3000)
        packet.payload, packet._data = b"\x10" + data, data  # type: ignore[attr-defined]
        buffer = self.transceiver.receiver._RTCRtpReceiver__jitter_buffer  # type: ignore[attr-defined]
        assert buffer.add(packet) == (False, None)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiving]:
    pc, publisher = new_connection(), peer()
    publisher.addTransceiver("video", "sendonly")
    offer = RTCSessionDescription(await offer_of(publisher, "VP8"), "offer")
    await pc.setRemoteDescription(offer)
    (transceiver,) = pc.getTransceivers()
    async with nothing_left():
        it = Receiving(VideoReceiving(transceiver, Gallery()), transceiver)
        it.ours.decoder.put = lambda frame, now_s: None  # type: ignore[method-assign]

        async def pli(ssrc: int) -> None:
            it.asked.append("keyframe")

        async def nack(ssrc: int, missing: list[int]) -> None:
            it.asked.append(missing)

        receiver = transceiver.receiver
        receiver._send_rtcp_pli, receiver._send_rtcp_nack = pli, nack  # type: ignore[method-assign]
        yield it
        it.ours.close()
    await close_quietly(pc)
    await publisher.close()
