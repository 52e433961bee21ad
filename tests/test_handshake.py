"""Where we begin DTLS, a peer that misses our first words is not kept waiting for a second."""

from __future__ import annotations

import asyncio

from aiortc import RTCPeerConnection
from media import Stage, accept, nothing_left, offer_of, stage, until
from peers import Performer, peer

from stream import inside
from stream.handshake import AGAIN_S
from stream.rtc import close_quietly
from stream.sources.webrtc import WebRtcSource


def deafen(pc: RTCPeerConnection, datagrams: int) -> list[bytes]:
    """It hears nothing of the first so many datagrams of DTLS; which they were."""
    (ice,) = inside.transports(pc, "ice")
    receive, missed = ice._recv, list[bytes]()

    async def deaf() -> bytes:
        while True:
            data: bytes = await receive()
            if not 20 <= data[0] < 64 or len(missed) == datagrams:
                return data
            missed.append(data)

    inside.replace(ice, "_recv", deaf)
    return missed


async def begun(it: Stage, pc: RTCPeerConnection) -> WebRtcSource:
    """A source whose peer leaves it to us to begin."""
    offer = (await offer_of(pc)).replace("setup:actpass", "setup:passive")
    source = await WebRtcSource.open(offer, it.inbox, None, lambda state: None)
    assert "a=setup:active" in source.answer
    return source


async def test_the_first_word_is_said_again_until_it_is_heard() -> None:
    async with stage() as it, nothing_left():
        pc = peer()
        pc.addTransceiver(Performer("red", 30), "sendonly")
        source = await begun(it, pc)
        missed = deafen(pc, len(AGAIN_S) - 1)
        await accept(pc, source.answer)
        # Left to itself, OpenSSL would say it a third time after three seconds.
        await until(lambda: it.inbox.published > 0, 2.5)
        assert len(missed) == len(AGAIN_S) - 1 and len(set(missed)) == 1
        await source.close()
        await pc.close()


async def test_a_connection_that_is_closed_before_it_is_heard_leaves_nothing() -> None:
    async with stage() as it, nothing_left():
        pc = peer()
        pc.addTransceiver(Performer("red", 30), "sendonly")
        source = await begun(it, pc)
        missed = deafen(pc, 1000)
        await accept(pc, source.answer)
        await until(lambda: len(missed) == 2)
        await source.close()
        known = len(missed)
        await asyncio.sleep(0.5)
        assert len(missed) <= known + 1  # the word that it ends
        await close_quietly(pc)
