"""The DTLS handshake where we begin it: a first word that was not heard is soon said again."""

from __future__ import annotations

import asyncio

from aiortc import RTCDtlsTransport, RTCPeerConnection

from stream import inside

# OpenSSL's own first wait is a second. FFmpeg's muxer reads what comes while it ends its ICE checks
# and forgets it, so that each of its sessions would begin by that second.
AGAIN_S = (0.05, 0.1, 0.2, 0.4)


def hasten(connection: RTCPeerConnection) -> None:
    """Say hello again until something is heard; when the offer is applied, before the answer is."""
    for transport in inside.transports(connection, "dtls"):
        _Hello(transport).await_first()


class _Hello:
    """Stands in for a transport's sending and receiving until the first datagram has come."""

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        self._dtls = dtls
        self._ice = dtls.transport
        self._send = self._ice._send
        self._receive = dtls._recv_next
        self._hello = b""

    def await_first(self) -> None:
        inside.replace(self._ice, "_send", self._keep)
        inside.replace(self._dtls, "_recv_next", self._first)

    async def _keep(self, data: bytes) -> None:
        """The first flight is one datagram: nothing else is sent before it is answered."""
        self._hello = data
        await self._send(data)

    async def _first(self) -> None:
        inside.replace(self._ice, "_send", self._send)
        inside.replace(self._dtls, "_recv_next", self._receive)
        hearing = asyncio.ensure_future(self._receive())
        try:
            for wait_s in AGAIN_S:
                done, _ = await asyncio.wait({hearing}, timeout=wait_s)
                if done:
                    break
                await self._send(self._hello)
            await hearing
        finally:
            hearing.cancel()
