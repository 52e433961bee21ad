"""Connections made and closed our way: each hook fails here when aiortc changes."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiortc import (
    RTCSessionDescription,
)
from losses import Gallery
from media import nothing_left, offer_of
from peers import peer

from stream import inside, rtc
from stream.receiving import VideoReceiving
from stream.rtc import close_quietly, new_connection


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
    (ice,) = inside.transports(ours, "ice")
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
        assert time.monotonic() - began < 2.0
    await publisher.close()
