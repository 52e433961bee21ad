"""A publisher over WebRTC: its camera into a lane, the avatar back where it asks for it."""

from __future__ import annotations

from aiortc import RTCRtpTransceiver

from stream.connection import Connection, StateListener
from stream.encoder import Renditions
from stream.lane import LaneInbox
from stream.rtc import VideoReceiving, peer_receives
from stream.sinks.viewer import PacketTrack, send_video


class WebRtcSource:
    """A peer that publishes (WHIP).

    An offer whose video is send-and-receive gets the avatar back on the same connection; a
    send-only one is received only.
    """

    def __init__(
        self, inbox: LaneInbox, renditions: Renditions | None, on_state: StateListener
    ) -> None:
        self._inbox = inbox
        self._renditions = renditions
        self._connection = Connection(on_state)
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
    ) -> WebRtcSource:
        """Answers an offer that `stream.sdp` has checked; `answer` is the SDP.

        renditions: None: the avatar is not sent back, whatever is asked. Raises OfferUnsupported
        when the offer cannot be answered, and leaves nothing then but a closed inbox.
        """
        source = cls(inbox, renditions, on_state)
        try:
            source.answer = await source._connection.answer(offer, source._prepare)
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
        if self._track is not None:
            self._track.stop()

    def _prepare(self, transceiver: RTCRtpTransceiver) -> None:
        self._receiving = VideoReceiving(transceiver, self._inbox)
        transceiver.direction = "recvonly"
        if self._renditions is not None and peer_receives(transceiver):
            transceiver.direction = "sendrecv"
            self._track = send_video(transceiver, self._renditions)
