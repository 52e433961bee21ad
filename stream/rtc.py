"""All that touches aiortc's private names; each use has a test that fails when aiortc changes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from ipaddress import ip_address
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

from aioice import Candidate
from aioice import Connection as IceConnection
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, server_reflexive_candidate
from aioice.turn import UDP_SOCKET_BUFFER_SIZE
from aiortc import (
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceServer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpCodecParameters,
    RTCRtpSender,
    RTCRtpTransceiver,
)
from aiortc.rtcrtpsender import RTCEncodedFrame
from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpSrPacket,
    RtpPacket,
    unpack_remb_fci,
)

from stream.audio import OPUS_TIME_BASE, AudioPacket, OpusPacket
from stream.decoder import Pictures, VideoDecoder
from stream.jitter import MarkerBuffer, Part, Wish
from stream.network import IceServer, Network, Ports
from stream.pacing import STEP_S, Pace
from stream.steady import SteadyTime
from workers.errors import ServerFull

SERVER_S = 1.5  # for a STUN or TURN server to answer
HELD_UP_S = 0.02
CLOSE_S = 0.5  # for aiortc's own close, and again for what that left


def new_connection(servers: Sequence[IceServer] = ()) -> RTCPeerConnection:
    """A connection that asks these servers alone: without a configuration aiortc asks one of
    its own choice. Of several, aioice asks the first of STUN and the first of TURN."""
    asked = [RTCIceServer(it.url, it.username, it.credential) for it in servers]
    return RTCPeerConnection(RTCConfiguration(iceServers=asked))


def gather_by(connection: RTCPeerConnection, network: Network) -> None:
    """Look for candidates as the settings say; when the offer is applied, before the answer is.

    aioice's own way binds any port, tells of this machine's addresses alone, and waits 5 s for a
    server that is silent.
    """
    for transport in _private(connection, "__iceTransports"):
        ice = transport._connection
        by_servers = ice.get_component_candidates
        _replace(ice, "get_component_candidates", _Gathering(ice, network, by_servers).gather)


class _Gathering:
    def __init__(
        self, ice: IceConnection, network: Network, by_servers: Callable[..., Any]
    ) -> None:
        self._ice = ice
        self._network = network
        self._by_servers = by_servers  # Any: aioice's own coroutine

    async def gather(self, component: int, addresses: list[str]) -> list[Candidate]:
        """In place of aioice's `get_component_candidates`. Raises ServerFull: no port is free."""
        found: list[Candidate] = []
        for address in addresses:
            protocol = await self._bind(address)
            if protocol is None:
                continue
            host, port = protocol.transport.get_extra_info("sockname")[:2]
            protocol.local_candidate = _host_candidate(component, host, port)
            found += self._announced(component, host, port)
            found.append(protocol.local_candidate)
        # Without an address of its own, aioice looks for a relayed candidate alone.
        asked = [self._by_servers(component, [], timeout=SERVER_S)]
        if self._ice.stun_server is not None:
            asked += [self._reflexive(it) for it in self._ice._protocols if _is_ipv4(it)]
        for candidates in await asyncio.gather(*asked):
            found += candidates
        return found

    async def _bind(self, address: str) -> StunProtocol | None:
        """None: there is no binding to this address."""
        loop = asyncio.get_running_loop()
        for port in _in_any_order(self._network.udp_ports):
            try:
                transport, protocol = await loop.create_datagram_endpoint(
                    lambda: StunProtocol(self._ice), local_addr=(address, port)
                )
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                return None
            socket = transport.get_extra_info("socket")
            socket.setsockopt(SOL_SOCKET, SO_RCVBUF, UDP_SOCKET_BUFFER_SIZE)
            self._ice._protocols.append(protocol)  # so that it is closed, whatever comes
            return protocol
        raise ServerFull(
            f"all UDP ports of {self._network.udp_ports} are in use: try again in a moment"
        )

    def _announced(self, component: int, host: str, port: int) -> list[Candidate]:
        version = ip_address(host).version
        return [
            _host_candidate(component, it, port)
            for it in self._network.announce
            if it != host and ip_address(it).version == version
        ]

    async def _reflexive(self, protocol: StunProtocol) -> list[Candidate]:
        assert self._ice.stun_server is not None
        try:
            async with asyncio.timeout(SERVER_S):
                found, _ = await server_reflexive_candidate(protocol, self._ice.stun_server)
        except Exception:  # no such name, no answer, a wrong one: there are other candidates
            return []
        return [found]


def _host_candidate(component: int, host: str, port: int) -> Candidate:
    return Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "host"),
        host=host,
        port=port,
        type="host",
    )


def _is_ipv4(protocol: StunProtocol) -> bool:
    return ip_address(protocol.local_candidate.host).version == 4


def _in_any_order(ports: Ports | None) -> Iterator[int]:
    """From somewhere in the middle on, and around; 0, which is any, where there is no range."""
    if ports is None:
        yield 0
        return
    first = random.randrange(len(ports))
    for step in range(len(ports)):
        yield ports.low + (first + step) % len(ports)


def codecs_of(transceiver: RTCRtpTransceiver) -> dict[int, str]:
    """The agreed codecs by payload type, in the order in which the peer prefers them."""
    return {
        codec.payloadType: codec.name
        for codec in transceiver._codecs
        if codec.payloadType is not None and codec.name.lower() != "rtx"
    }


def retransmits(transceiver: RTCRtpTransceiver) -> bool:
    """Whether the peer says that it sends again what we miss (RFC 4585, section 4.2)."""
    return any(
        feedback.type == "nack" and not feedback.parameter
        for codec in transceiver._codecs
        for feedback in codec.rtcpFeedback
    )


def peer_receives(transceiver: RTCRtpTransceiver) -> bool:
    """Whether the offer asks for our media in this section."""
    return transceiver._offerDirection in ("sendonly", "sendrecv")  # as seen from here


def peer_sends(transceiver: RTCRtpTransceiver) -> bool:
    """Whether the offer sends media in this section."""
    return transceiver._offerDirection in ("recvonly", "sendrecv")  # as seen from here


def agree_on_opus(transceiver: RTCRtpTransceiver) -> bool:
    """Answer with Opus alone; False, and nothing changed: the offer has none.

    With its own forward error correction (RFC 7587, section 6.1), which the sender puts in where
    it sees losses: what is lost before us, the viewer's decoder then mends.
    """
    opus = [codec for codec in transceiver._codecs if codec.name.lower() == "opus"]
    for codec in opus:
        codec.parameters = {"minptime": 10, "useinbandfec": 1}
    transceiver._codecs = opus or transceiver._codecs
    return bool(opus)


def play_in_step(connection: RTCPeerConnection) -> None:
    """Send sound and picture as one stream, which is what a browser plays in step."""
    senders = connection.getSenders()
    for sender in senders:
        sender._stream_id = senders[0]._stream_id


def answer_passively(transceiver: RTCRtpTransceiver) -> None:
    """Answer `setup:passive`, where aiortc's own choice is `active`; before `createAnswer`."""
    transceiver.receiver.transport._set_role("server")


async def add_candidates(
    connection: RTCPeerConnection, candidates: Sequence[RTCIceCandidate]
) -> None:
    """Gives each to the transport of its section; to the first's where it names none.

    aiortc's own `addIceCandidate` forgets those of bundled sections, which share a transport.
    """
    for candidate in candidates:
        for transceiver in connection.getTransceivers():
            if candidate.sdpMid in (None, transceiver.mid):
                await transceiver.receiver.transport.transport.addRemoteCandidate(candidate)
                break


def on_keyframe_request(sender: RTCRtpSender, callback: Callable[[], None]) -> None:
    """Call back at each PLI and FIR: aiortc itself heeds them for its own encoders alone."""
    _replace(sender, "_send_keyframe", callback)


def steady_reports(sender: RTCRtpSender, time_of: SteadyTime) -> None:
    """Its sender reports tell the stream's smoothed time, not that of the packet sent last."""
    send = sender._send_rtcp

    async def corrected(packets: list[AnyRtcpPacket]) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and packet.sender_info.ntp_timestamp:
                packet.sender_info.ntp_timestamp += int(time_of.correction_s * 2**32)
                # What the peer will quote, by which aiortc knows the round trip.
                lsr = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
                _replace(sender, "_RTCRtpSender__lsr", lsr)
        await send(packets)

    _replace(sender, "_send_rtcp", corrected)


def on_network_report(
    sender: RTCRtpSender, estimate: Callable[[int], None], loss: Callable[[float], None]
) -> None:
    """Call back with each REMB's bit/s, and with each report's fraction lost, 0 to 1.

    aiortc tells a REMB to its own encoders alone, and losses to nobody.
    """
    handle = sender._handle_rtcp_packet

    async def heard(packet: AnyRtcpPacket) -> None:
        match packet:
            case RtcpPsfbPacket(fmt=fmt) if fmt == RTCP_PSFB_APP:
                with contextlib.suppress(ValueError):  # another application's, or a broken one
                    bit_rate, ssrcs = unpack_remb_fci(packet.fci)
                    if sender._ssrc in ssrcs:
                        estimate(bit_rate)
            case RtcpRrPacket() | RtcpSrPacket():
                for report in packet.reports:
                    if report.ssrc == sender._ssrc:
                        loss(report.fraction_lost / 256)
        await handle(packet)

    _replace(sender, "_handle_rtcp_packet", heard)


def pace(sender: RTCRtpSender, pace_of: Callable[[int], Pace | None]) -> None:
    """Ask, for each frame of so many packets, how they leave; when the transports are settled."""
    paced = _PacedTransport(sender.transport)
    next_frame = sender._next_encoded_frame

    async def begun(codec: RTCRtpCodecParameters) -> RTCEncodedFrame | None:
        frame = await next_frame(codec)
        paced.begin(None if frame is None else pace_of(len(frame.payloads)))
        return frame

    _replace(sender, "_next_encoded_frame", begun)
    _replace(sender, "_RTCRtpSender__transport", paced)


def on_retransmission(sender: RTCRtpSender, allows: Callable[[int], bool]) -> None:
    """Ask, for each packet that the peer wants again, by its sequence number."""
    retransmit = sender._retransmit

    async def asked(sequence_number: int) -> None:
        if allows(sequence_number):
            await retransmit(sequence_number)

    _replace(sender, "_retransmit", asked)


class _PacedTransport:
    """A transport as one sender sees it: the packets of its large frames wait their turn.

    Reports and retransmissions, which other tasks send, do not.
    """

    def __init__(self, transport: RTCDtlsTransport) -> None:
        self._transport = transport
        self._pace: Pace | None = None
        self._packet = 0
        self._task: asyncio.Task[Any] | None = None  # Any: whatever it returns

    def __getattr__(self, name: str) -> Any:  # Any: all else is the transport's own
        return getattr(self._transport, name)

    def begin(self, pace: Pace | None) -> None:
        """From the sender's task, before a frame."""
        self._pace, self._packet, self._task = pace, 0, asyncio.current_task()

    async def _send_rtp(self, data: bytes) -> None:
        if self._pace is not None and asyncio.current_task() is self._task:
            if self._pace.waits_before(self._packet):
                await asyncio.sleep(STEP_S)
            self._packet += 1
        await self._transport._send_rtp(data)


class VideoReceiving:
    """Our way in place of aiortc's from RTP packets to pictures; before the answer is applied.

    aiortc's waits for the next frame to hand on one, stops at a loss, queues without bound, takes
    each picture over the event loop, and holds that while it joins its decoder's thread.
    """

    def __init__(self, transceiver: RTCRtpTransceiver, pictures: Pictures) -> None:
        self.decoder = VideoDecoder(pictures, self._broken)
        self.buffer = MarkerBuffer(
            lambda frame: self.decoder.put(frame, time.monotonic()),
            retransmits=retransmits(transceiver),
        )
        self._loop = asyncio.get_running_loop()
        self._receiver = transceiver.receiver
        self._timer: asyncio.TimerHandle | None = None
        self._due_s: float | None = None  # when it rings
        self._hears_first = False
        self._asking: set[asyncio.Task[None]] = set()
        self._closed = False
        packets = _PacketsInPlace(codecs_of(transceiver), self._add)
        _replace(self._receiver, "_RTCRtpReceiver__jitter_buffer", packets)
        _replace(self._receiver, "_RTCRtpReceiver__nack_generator", _NothingMissing())
        _replace(self._receiver, "_RTCRtpReceiver__decoder_queue", _NothingToDecode())

    def close(self) -> None:
        """No picture comes after this but the one in work. Joins nothing."""
        self._closed = True
        self.decoder.close()
        if self._timer is not None:
            self._timer.cancel()
        for asking in self._asking:
            asking.cancel()

    def _add(self, part: Part) -> None:
        self.buffer.add(part, part.arrival_s)
        self._look()

    def _broken(self) -> None:
        """From either thread."""
        self.buffer.require_keyframe()
        with contextlib.suppress(RuntimeError):  # the loop has ended before the decoder's thread
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """Ask for what the buffer lacks, and look again when it says so though nothing comes."""
        if self._closed:
            return
        now_s = time.monotonic()
        if self._due_s is not None and now_s > self._due_s + HELD_UP_S and not self._hears_first:
            # The loop was held up: what we would ask for may have come, and be heard in a moment.
            self._hears_first = True
            self._look_at(now_s + HELD_UP_S, now_s)
            return
        if self._hears_first and self._due_s is not None and now_s < self._due_s:
            return
        self._hears_first = False
        wish = self.buffer.wish(now_s)
        if wish.keyframe or wish.missing:
            asking = self._loop.create_task(self._ask(wish))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        self._look_at(self.buffer.due_s, now_s)

    def _look_at(self, due_s: float | None, now_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = None if due_s is None else self._loop.call_later(due_s - now_s, self._look)

    async def _ask(self, wish: Wish) -> None:
        ssrc = self.buffer.ssrc
        assert ssrc is not None, "nothing is missed before the first packet"
        if wish.missing:
            await self._receiver._send_rtcp_nack(ssrc, sorted(wish.missing))
        if wish.keyframe:
            await self._receiver._send_rtcp_pli(ssrc)


class AudioReceiving:
    """Opus packets as they come in place of aiortc's sound; before the answer is applied.

    aiortc's waits for a few of them, stumbles at a loss, and decodes in a thread.
    """

    def __init__(self, transceiver: RTCRtpTransceiver, hear: Callable[[OpusPacket], None]) -> None:
        self._passing = _Passing(hear)
        receiver = transceiver.receiver
        _replace(receiver, "_RTCRtpReceiver__jitter_buffer", self._passing)
        _replace(receiver, "_RTCRtpReceiver__decoder_queue", _NothingToDecode())

    def close(self) -> None:
        """No packet comes after this."""
        self._passing.hear = None


class _Passing:
    """Has the face of aiortc's JitterBuffer, holds nothing, and gives its caller no frame."""

    def __init__(self, hear: Callable[[OpusPacket], None]) -> None:
        self.hear: Callable[[OpusPacket], None] | None = hear

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        if self.hear is not None and packet.payload:
            now_s = time.monotonic()
            self.hear(OpusPacket(packet.ssrc, packet.timestamp, packet.payload, now_s))
        return False, None


def pass_opus(sender: RTCRtpSender) -> None:
    """The sender's track has Opus packets already: it needs no encoder of aiortc's."""
    _replace(sender, "_RTCRtpSender__encoder", _Packed())


class _Packed:
    """Has the face of aiortc's OpusEncoder, for packets alone."""

    def pack(self, packet: AudioPacket) -> tuple[list[bytes], int]:
        assert packet.pts is not None and packet.time_base == OPUS_TIME_BASE
        return [bytes(packet)], packet.pts


class _PacketsInPlace:
    """Has the face of aiortc's JitterBuffer, and gives its caller no frame."""

    def __init__(self, codecs: dict[int, str], add: Callable[[Part], None]) -> None:
        self._codecs = codecs
        self._add = add

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """False: aiortc shall send no PLI, for we do."""
        codec = self._codecs.get(packet.payload_type)
        if codec is not None:
            part = Part(
                ssrc=packet.ssrc,
                sequence=packet.sequence_number,
                timestamp=packet.timestamp,
                marker=bool(packet.marker),
                codec=codec,
                payload=packet.payload,
                data=packet._data,  # type: ignore[attr-defined]  # the receiver sets it
                arrival_s=time.monotonic(),
            )
            self._add(part)
        return False, None


class _NothingMissing:
    """Has the face of aiortc's NackGenerator, which asks once for each packet and never again."""

    def add(self, packet: RtpPacket) -> bool:
        return False


class _NothingToDecode:
    """Has the face of the queue that aiortc's decoder thread reads: the thread ends at once."""

    def get(self) -> None:
        return None

    def put(self, task: object) -> None:
        """At the stream's end aiortc puts None, for a thread that has ended long ago."""
        assert task is None


async def close_quietly(connection: RTCPeerConnection) -> None:
    """Closes it and all that it opened, in whatever state it is, within a second.

    aiortc's own close raises after a `setRemoteDescription` that failed half way, and leaves the
    sockets open; and a connection that is just coming about goes on behind its back.
    """
    with contextlib.suppress(Exception):  # what it left is closed below
        async with asyncio.timeout(CLOSE_S):
            await connection.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await asyncio.gather(*_leftovers(connection), return_exceptions=True)


def _leftovers(connection: RTCPeerConnection) -> Iterator[Coroutine[Any, Any, None]]:
    # Any: what a coroutine yields to its loop.
    for transport in _private(connection, "__dtlsTransports"):
        yield transport.stop()
    for transport in _private(connection, "__iceTransports"):
        yield _end_ice(transport)
    for transceiver in connection.getTransceivers():
        yield transceiver.receiver.stop()
        yield transceiver.sender.stop()


async def _end_ice(transport: RTCIceTransport) -> None:
    """aioice's `connect` looks up each 20 ms; closed meanwhile, it still asks for consent for ever
    when its checks had succeeded. So let it come to its end, then close once more."""
    await transport.stop()
    started: asyncio.Event | None = getattr(transport, "_RTCIceTransport__start")  # noqa: B009
    if started is not None:
        await started.wait()
    await transport._connection.close()


def _private(connection: RTCPeerConnection, name: str) -> set[Any]:
    found: set[Any] = getattr(connection, f"_RTCPeerConnection{name}")  # Any: of aiortc's inside
    return found


def _replace(of: object, name: str, by: object) -> None:
    getattr(of, name)  # AttributeError: aiortc has changed
    setattr(of, name, by)
