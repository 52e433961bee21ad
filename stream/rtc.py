"""A peer connection as aiortc has it, made, agreed upon and closed our way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from aiortc import (
    RTCConfiguration,
    RTCIceCandidate,
    RTCIceServer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSctpTransport,
)

from stream import inside
from stream.network import IceServer

MOST_CHANNELS = 16
MOST_PIECES = 128  # of messages that are not whole: 1200 bytes each at most
CLOSE_S = 0.5  # for aiortc's own close, and again for what that left


def new_connection(servers: Sequence[IceServer] = ()) -> RTCPeerConnection:
    """A connection that asks these servers alone: without a configuration aiortc asks one of
    its own choice. Of several, aioice asks the first of STUN and the first of TURN."""
    asked = [RTCIceServer(it.url, it.username, it.credential) for it in servers]
    return RTCPeerConnection(RTCConfiguration(iceServers=asked))


def codecs_of(transceiver: RTCRtpTransceiver) -> dict[int, str]:
    """The agreed codecs by payload type, in the order in which the peer prefers them."""
    return {
        codec.payloadType: codec.name
        for codec in transceiver._codecs
        if codec.payloadType is not None and codec.name.lower() != "rtx"
    }


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
            if candidate.sdpMid in (None, transceiver.mid, _mid_of_data(connection)):
                await transceiver.receiver.transport.transport.addRemoteCandidate(candidate)
                break


def _mid_of_data(connection: RTCPeerConnection) -> str | None:
    """Of the section for data channels, which travel with the video (`stream.sdp`)."""
    return None if connection.sctp is None else connection.sctp.mid


def bound_data(connection: RTCPeerConnection) -> None:
    """End the data channels, not the media, of a peer that sends what no client of ours does.

    aiortc keeps what comes in pieces until the last one is there, streams and channels without
    number; and an error in a packet of theirs ends its whole connection.
    """
    sctp = connection.sctp
    if sctp is None:
        return
    handle = sctp._handle_data

    async def bounded(data: bytes) -> None:
        try:
            await handle(data)
            broken = not _is_modest(sctp)
        except ConnectionError:
            raise
        except Exception:  # assertions, and what a malformed packet makes aiortc stumble over
            broken = True
        if broken:
            await sctp.stop()

    inside.replace(sctp, "_handle_data", bounded)


def _is_modest(sctp: RTCSctpTransport) -> bool:
    streams = sctp._inbound_streams
    return (
        len(streams) <= MOST_CHANNELS
        and len(sctp._data_channels) <= MOST_CHANNELS
        and len(sctp._sack_misordered) <= MOST_PIECES
        and sum(len(it.reassembly) for it in streams.values()) <= MOST_PIECES
    )


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
    for transport in inside.transports(connection, "dtls"):
        yield transport.stop()
    for transport in inside.transports(connection, "ice"):
        yield _end_ice(transport)
    if connection.sctp is not None:
        yield connection.sctp.stop()
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
