"""A publisher over WebRTC: its camera into a lane, the avatar back where it asks for it."""

from __future__ import annotations

from collections.abc import Sequence

from aiortc import RTCIceCandidate, RTCRtpTransceiver

from stream.audio import AudioTrack, Sound
from stream.connection import Connection, StateListener
from stream.encoder import Renditions
from stream.lane import LaneInbox
from stream.network import ANYWHERE, Network
from stream.rtc import AudioReceiving, VideoReceiving, peer_receives, peer_sends
from stream.sinks.viewer import PacketTrack, send_audio, send_video


class WebRtcSource:
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
    ) -> None:
        self._inbox = inbox
        self._renditions = renditions
        self._sound = sound
        self._hearing: AudioReceiving | None = None
        self._voice: AudioTrack | None = None
        self._connection = Connection(on_state, network)
        self._receiving: VideoReceiving | None = None
        self._track: PacketTrack | None = None
        self.answer = ""

    @classmethod
    async def open(
        cls,
        offer: str,
        inbox: LaneInbox,
        renditions: Renditions | None,
        on_state: StateListener,
        sound: Sound | None = None,
        network: Network = ANYWHERE,
    ) -> WebRtcSource:
        """Answers an offer that `stream.sdp` has checked; `answer` is the SDP.

        renditions: None: the avatar is not sent back, whatever is asked. sound: None: audio is
        not received. Raises OfferUnsupported when the offer cannot be answered, and leaves
        nothing then but a closed inbox and silence.
        """
        source = cls(inbox, renditions, on_state, sound, network)
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

    @property
    def sent_mark(self) -> int:
        """The most packets that have waited to be sent back."""
        return self._track.high_water_packets if self._track is not None else 0

    @property
    def ufrags(self) -> frozenset[str]:
        """The peer's, of its offer."""
        return self._connection.ufrags

    async def trickle(self, candidates: Sequence[RTCIceCandidate]) -> None:
        """More of the peer's candidates. Raises OfferError for too many."""
        await self._connection.trickle(candidates)

    async def close(self) -> None:
        """Ends it within a second, the loop free meanwhile; closing twice is no error.

        The inbox is closed too: no frame of this source comes after this.
        """
        self._stop_media()
        await self._connection.close()

    def _stop_media(self) -> None:
        self._inbox.close()
        if self._receiving is not None:
            self._receiving.close()
        if self._hearing is not None:
            self._hearing.close()
        for track in (self._track, self._voice):
            if track is not None:
                track.stop()

    def _prepare(self, transceiver: RTCRtpTransceiver) -> None:
        self._receiving = VideoReceiving(transceiver, self._inbox)
        transceiver.direction = "recvonly"
        if self._renditions is not None and peer_receives(transceiver):
            transceiver.direction = "sendrecv"
            self._track = send_video(transceiver, self._renditions)

    def _prepare_audio(self, transceiver: RTCRtpTransceiver) -> None:
        if self._sound is None or not peer_sends(transceiver):
            return
        self._hearing = AudioReceiving(transceiver, self._sound.hear)
        self._sound.is_on = True
        transceiver.direction = "recvonly"
        if peer_receives(transceiver):
            transceiver.direction = "sendrecv"
            self._voice = send_audio(transceiver, self._sound)
