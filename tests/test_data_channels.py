"""A peer's data channels, hostile or late: they end, and the connection does not."""

from __future__ import annotations

import pytest
from aiortc import RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from media import nothing_left, offer_of
from peers import peer
from processes import until

from stream import rtc
from stream.rtc import close_quietly, new_connection


async def connected(ours: RTCPeerConnection, theirs: RTCPeerConnection) -> RTCDataChannel:
    """Their channel, open; ours is bounded."""
    theirs.addTransceiver("video", "sendonly")
    channel = theirs.createDataChannel("controls")
    await ours.setRemoteDescription(RTCSessionDescription(await offer_of(theirs), "offer"))
    rtc.bound_data(ours)
    await ours.setLocalDescription(await ours.createAnswer())
    answer = ours.localDescription
    await theirs.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
    await until(lambda: channel.readyState == "open")
    return channel


async def test_an_error_in_a_packet_ends_the_channels_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with nothing_left():
        ours, theirs = new_connection(), peer()
        channel = await connected(ours, theirs)

        async def stumble(*_: object) -> None:
            raise AssertionError("an open for an existing channel")

        monkeypatch.setattr(ours.sctp, "_data_channel_receive", stumble)
        channel.send("anything")
        await until(lambda: channel.readyState == "closed")
        assert ours.sctp is not None and ours.sctp.state == "closed"
        assert ours.connectionState == theirs.connectionState == "connected"
        await close_quietly(ours)
        await theirs.close()


async def test_channels_without_number_end_them_all() -> None:
    async with nothing_left():
        ours, theirs = new_connection(), peer()
        channel = await connected(ours, theirs)
        for _ in range(rtc.MOST_CHANNELS):
            theirs.createDataChannel("more")
        await until(lambda: channel.readyState == "closed")
        assert ours.connectionState == "connected"
        await close_quietly(ours)
        await theirs.close()
