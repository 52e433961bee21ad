"""One answered WebRTC connection, from its offer to its close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiortc import (
    RTCDataChannel,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)

from stream import gathering, handshake, rtc
from stream.network import Network
from stream.sdp import MAX_CANDIDATES, answer_setup, ufrags_of, without_unused
from stream.unsaid import as_offered, said
from workers.errors import OfferError, OfferUnsupported

GATHER_S = 5.0

StateListener = Callable[[str], None]
ChannelListener = Callable[[RTCDataChannel], None]


class Connection:
    """The server's end of a peer connection.

    `on_state` hears `connecting`, `connected`, `failed` and `closed` (by the peer), on the event
    loop, and nothing after `close`. `on_channel` is given each data channel that the peer opens;
    without it they are closed.
    """

    def __init__(
        self,
        on_state: StateListener,
        network: Network,
        on_channel: ChannelListener | None = None,
    ) -> None:
        self._on_state: StateListener | None = on_state
        self._closing: asyncio.Task[None] | None = None
        self._network = network
        self._trickled = 0
        self.ufrags: frozenset[str] = frozenset()  # of the peer, from its offer on
        self._peer: RTCPeerConnection = rtc.new_connection(network.ice_servers)
        self._peer.on("connectionstatechange", self._tell_state)
        self._peer.on("datachannel", on_channel or RTCDataChannel.close)

    async def answer(
        self,
        offer: str,
        prepare: Callable[[RTCRtpTransceiver], None],
        prepare_audio: Callable[[RTCRtpTransceiver], None] | None = None,
    ) -> str:
        """The answer's SDP, its candidates in it.

        offer: one that `stream.sdp` has checked. prepare: is given the video transceiver when its
        codecs are agreed, sets its direction and hooks. prepare_audio: the same for an audio
        section that has Opus; without it, or without Opus, audio is answered `inactive`. Raises
        OfferUnsupported when aiortc cannot answer, ServerFull for want of a port; whatever it
        raises, nothing is left open.
        """
        try:
            return await self._answer(offer, prepare, prepare_audio)
        except BaseException:
            await self.close()
            raise

    async def trickle(self, candidates: Sequence[RTCIceCandidate]) -> None:
        """More candidates of the peer, checked by `stream.sdp`; no error after `close`.

        Raises OfferError where there have been too many in all.
        """
        self._trickled += len(candidates)
        if self._trickled > MAX_CANDIDATES:
            raise OfferError(f"more than {MAX_CANDIDATES} candidates were sent: send fewer")
        if self._closing is None:
            await rtc.add_candidates(self._peer, candidates)

    async def close(self) -> None:
        """Ends it within a second; closing twice is no error."""
        self._on_state = None
        if self._closing is None:
            self._closing = asyncio.ensure_future(rtc.close_quietly(self._peer))
        await asyncio.shield(self._closing)

    async def _answer(
        self,
        offer: str,
        prepare: Callable[[RTCRtpTransceiver], None],
        prepare_audio: Callable[[RTCRtpTransceiver], None] | None,
    ) -> str:
        peer = self._peer
        self.ufrags = ufrags_of(offer)
        try:
            theirs = without_unused(said(offer))
            await peer.setRemoteDescription(RTCSessionDescription(theirs, "offer"))
        except Exception as error:  # aiortc raises whatever the offer made it stumble over
            raise OfferUnsupported(
                f"the offer cannot be answered ({error}): offer VP8, or H264 of profile baseline "
                "with packetization-mode=1, and audio as opus or not at all"
            ) from error
        is_passive = answer_setup(offer) == "passive"
        if not is_passive:
            handshake.hasten(peer)
        for transceiver in peer.getTransceivers():
            if is_passive:
                rtc.answer_passively(transceiver)
            if transceiver.kind == "video":
                prepare(transceiver)
            else:
                transceiver.direction = "inactive"
                if prepare_audio is not None and rtc.agree_on_opus(transceiver):
                    prepare_audio(transceiver)
        rtc.play_in_step(peer)
        rtc.bound_data(peer)
        gathering.gather_by(peer, self._network)
        async with asyncio.timeout(GATHER_S):
            await peer.setLocalDescription(await peer.createAnswer())
        return as_offered(peer.localDescription.sdp, offer)

    def _tell_state(self) -> None:
        if self._on_state is not None:
            self._on_state(self._peer.connectionState)
