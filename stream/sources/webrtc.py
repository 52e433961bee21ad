"""A publisher over WebRTC: its camera into a lane, the avatar back where it asks for it."""

from __future__ import annotations

from aiortc import RTCRtpTransceiver

from stream.audio import Sound
from stream.connection import ChannelListener, Connection, StateListener
from stream.encoder import Renditions
from stream.lane import LaneInbox
from stream.network import ANYWHERE, Network
from stream.peer import Peer
from stream.receiving import AudioReceiving, VideoReceiving
from stream.rtc import peer_receives, peer_sends


class WebRtcSource(Peer):
    """A peer that publishes (WHIP).

    An offer whose video is send-and-receive gets the avatar back on the same connection; a
    send-only one is received only. The same holds for its audio: only where that section itself
    is send-and-receive does the publisher hear its own voice, as late as the avatar is.
    """

    def __init__(
        self,
        inbox: LaneInbox,
        renditions: Renditions | None,
        on_state: StateListener,
        sound: Sound | None = None,
        network: Network = ANYWHERE,
        on_channel: ChannelListener | None = None,
    ) -> None:
        super().__init__(Connection(on_state, network, on_channel))
        self._inbox = inbox
        self._renditions = renditions
        self._sound = sound
        self._hearing: AudioReceiving | None = None
        self._receiving: VideoReceiving | None = None

    @classmethod
    async def open(
        cls,
        offer: str,
        inbox: LaneInbox,
        renditions: Renditions | None,
        on_state: StateListener,
        sound: Sound | None = None,
        network: Network = ANYWHERE,
        on_channel: ChannelListener | None = None,
    ) -> WebRtcSource:
        """Answers an offer that `stream.sdp` has checked; `answer` is the SDP.

        renditions: None: the avatar is not sent back, whatever is asked. sound: None: audio is
        not received. on_channel: is given each data channel that the peer opens.

        Raises OfferUnsupported when the offer cannot be answered, and leaves
        nothing then but a closed inbox and silence.
        """
        source = cls(inbox, renditions, on_state, sound, network, on_channel)
        try:
            source.answer = await source._connection.answer(
                offer, source._prepare, source._prepare_audio
            )
        except BaseException:
            source._stop_media()
            raise
        return source

    @property
    def decoder_mark(self) -> int:
        """The most encoded frames that have waited for the decoder."""
        return self._receiving.decoder.high_water_frames if self._receiving is not None else 0

    def _stop_media(self) -> None:
        self._inbox.close()  # no frame of this source comes after this
        if self._receiving is not None:
            self._receiving.close()
        if self._hearing is not None:
            self._hearing.close()
        super()._stop_media()

    def _prepare(self, transceiver: RTCRtpTransceiver) -> None:
        self._receiving = VideoReceiving(transceiver, self._inbox)
        transceiver.direction = "recvonly"
        if self._renditions is not None and peer_receives(transceiver):
            transceiver.direction = "sendrecv"
            self._send_pictures(transceiver, self._renditions)

    def _prepare_audio(self, transceiver: RTCRtpTransceiver) -> None:
        if self._sound is None or not peer_sends(transceiver):
            return
        self._hearing = AudioReceiving(transceiver, self._sound.hear)
        self._sound.is_on = True
        transceiver.direction = "recvonly"
        if peer_receives(transceiver):
            transceiver.direction = "sendrecv"
            self._send_voice(transceiver, self._sound)
