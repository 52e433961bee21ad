"""One answered WebRTC connection, from its offer to its close."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from aiortc import RTCPeerConnection, RTCRtpTransceiver, RTCSessionDescription

from stream import rtc
from stream.sdp import answer_setup
from workers.errors import OfferUnsupported

GATHER_S = 5.0

StateListener = Callable[[str], None]


class Connection:
    """The server's end of a peer connection.

    `on_state` hears `connecting`, `connected`, `failed` and `closed` (by the peer), on the event
    loop, and nothing after `close`.
    """

    def __init__(self, on_state: StateListener) -> None:
        self._on_state: StateListener | None = on_state
        self._closing: asyncio.Task[None] | None = None
        self._peer: RTCPeerConnection = rtc.new_connection()
        self._peer.on("connectionstatechange", self._tell_state)

    async def answer(self, offer: str, prepare: Callable[[RTCRtpTransceiver], None]) -> str:
        """The answer's SDP, its candidates in it.

        offer: one that `stream.sdp` has checked. prepare: is given the video transceiver when its
        codecs are agreed, sets its direction and hooks. Audio is answered `inactive`. Raises
        OfferUnsupported when aiortc cannot answer; whatever it raises, nothing is left open.
        """
        try:
            return await self._answer(offer, prepare)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends it within a second; closing twice is no error."""
        self._on_state = None
        if self._closing is None:
            self._closing = asyncio.ensure_future(rtc.close_quietly(self._peer))
        await asyncio.shield(self._closing)

    async def _answer(self, offer: str, prepare: Callable[[RTCRtpTransceiver], None]) -> str:
        peer = self._peer
        try:
            await peer.setRemoteDescription(RTCSessionDescription(without_names(offer), "offer"))
        except Exception as error:  # aiortc raises whatever the offer made it stumble over
            raise OfferUnsupported(
                f"the offer cannot be answered ({error}): offer VP8, or H264 of profile baseline "
                "with packetization-mode=1, and audio as opus or not at all"
            ) from error
        is_passive = answer_setup(offer) == "passive"
        for transceiver in peer.getTransceivers():
            if is_passive:
                rtc.answer_passively(transceiver)
            if transceiver.kind == "video":
                prepare(transceiver)
            else:
                transceiver.direction = "inactive"
        async with asyncio.timeout(GATHER_S):
            await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)

    def _tell_state(self) -> None:
        if self._on_state is not None:
            self._on_state(self._peer.connectionState)


def without_names(offer: str) -> str:
    """The offer without candidates whose address is hidden behind a name (mDNS).

    To resolve one takes multicast, and a second where there is no answer, while the peer reaches
    ours without it. What is left is not the whole list, so its end is not told either.
    """
    lines = offer.splitlines()
    hidden = [line for line in lines if re.match(r"a=candidate:(\S+ ){4}\S+\.local ", line)]
    if hidden:
        lines = [
            line for line in lines if line not in hidden and line.strip() != "a=end-of-candidates"
        ]
    return "".join(f"{line}\r\n" for line in lines)
