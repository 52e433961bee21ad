"""A viewer: a session's packets to a peer that watches."""

from __future__ import annotations

from aiortc import RTCRtpTransceiver

from stream import rtc
from stream.audio import Sound
from stream.connection import Connection, StateListener
from stream.encoder import Renditions
from stream.network import ANYWHERE, Network
from stream.peer import Peer


class Viewer(Peer):
    """A peer that watches a session (WHEP, the offer by the viewer).

    It hears the session, too, where its offer has an audio section and the session has sound.
    """

    def __init__(
        self,
        renditions: Renditions,
        on_state: StateListener,
        sound: Sound | None = None,
        network: Network = ANYWHERE,
    ) -> None:
        super().__init__(Connection(on_state, network))
        self._renditions = renditions
        self._sound = sound

    @classmethod
    async def open(
        cls,
        offer: str,
        renditions: Renditions,
        on_state: StateListener,
        sound: Sound | None = None,
        network: Network = ANYWHERE,
    ) -> Viewer:
        """Answers an offer that `stream.sdp` has checked; `answer` is the SDP.

        Raises OfferUnsupported when the offer cannot be answered, and leaves nothing then.
        """
        viewer = cls(renditions, on_state, sound, network)
        viewer.answer = await viewer._connection.answer(
            offer, viewer._prepare, viewer._prepare_audio
        )
        return viewer

    def _prepare(self, transceiver: RTCRtpTransceiver) -> None:
        transceiver.direction = "sendonly"
        self._send_pictures(transceiver, self._renditions)

    def _prepare_audio(self, transceiver: RTCRtpTransceiver) -> None:
        if self._sound is not None and self._sound.is_on and rtc.peer_receives(transceiver):
            transceiver.direction = "sendonly"
            self._send_voice(transceiver, self._sound)
