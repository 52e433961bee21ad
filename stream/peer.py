"""A peer of a session: its connection, what it is sent over it, and the end of both."""

from __future__ import annotations

from collections.abc import Sequence

from aiortc import RTCIceCandidate, RTCRtpTransceiver

from stream import rtc, sending
from stream.audio import AudioTrack, Sound
from stream.codecs import Codec
from stream.connection import Connection
from stream.encoder import Renditions
from stream.sinks.track import PacketTrack


class Peer:
    """Who publishes, who watches: for each kind a class that knows what its offer is given."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pictures: PacketTrack | None = None
        self._voice: AudioTrack | None = None
        self.answer = ""  # SDP, once it is opened

    @property
    def sent_mark(self) -> int:
        """The most packets that have waited to be sent."""
        return self._pictures.high_water_packets if self._pictures is not None else 0

    @property
    def ufrags(self) -> frozenset[str]:
        """The peer's, of its offer."""
        return self._connection.ufrags

    async def trickle(self, candidates: Sequence[RTCIceCandidate]) -> None:
        """More of the peer's candidates. Raises OfferError for too many."""
        await self._connection.trickle(candidates)

    async def close(self) -> None:
        """Ends it within a second, the loop free meanwhile; closing twice is no error."""
        self._stop_media()
        await self._connection.close()

    def _stop_media(self) -> None:
        """Nothing comes or goes from now on."""
        for track in (self._pictures, self._voice):
            if track is not None:
                track.stop()

    def _send_pictures(self, transceiver: RTCRtpTransceiver, renditions: Renditions) -> None:
        """In the codec that the peer prefers; before the answer is applied."""
        codec = Codec(next(iter(rtc.codecs_of(transceiver).values())))
        track = PacketTrack(renditions.get(codec), renditions.audience(codec))
        transceiver.sender.replaceTrack(track)
        sending.on_keyframe_request(transceiver.sender, track.request_keyframe)
        sending.steady_reports(transceiver.sender, track.time)
        sending.on_network_report(transceiver.sender, track.estimate, track.loss)
        sending.on_retransmission(transceiver.sender, track.allows_again)
        sending.pace(transceiver.sender, track.pace_of)
        self._pictures = track

    def _send_voice(self, transceiver: RTCRtpTransceiver, sound: Sound) -> None:
        """Before the answer is applied."""
        track = AudioTrack(sound)
        transceiver.sender.replaceTrack(track)
        sending.pass_opus(transceiver.sender)
        sending.steady_reports(transceiver.sender, track.time)
        self._voice = track
