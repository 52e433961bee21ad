"""A narrow line at the network's edge: a UDP relay that lets so many bits a second through."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

QUEUE_S = 0.3  # what a router holds before it drops


class _Side(asyncio.DatagramProtocol):
    """One socket; what it hears goes out of the other, to whom that heard last."""

    def __init__(self, line: Narrow, is_limited: bool) -> None:
        self._line = line
        self._is_limited = is_limited
        self.other: _Side | None = None
        self.peer: tuple[str, int] | None = None
        self._free_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.port: int = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._is_limited:  # this side hears the server, which sends to anyone who asks
            self._queue(data)
        elif self.other is not None:
            self.peer = addr
            self.other.send(data)

    def _queue(self, data: bytes) -> None:
        now_s = time.monotonic()
        wait_s = max(self._free_s - now_s, 0.0)
        if wait_s > QUEUE_S:
            self._line.dropped += 1
            return
        self._free_s = max(self._free_s, now_s) + 8 * len(data) / self._line.bit_rate
        self._line.passed += 1
        asyncio.get_running_loop().call_later(self._free_s - now_s, self._pass, data)

    def _pass(self, data: bytes) -> None:
        if self.other is not None:
            self.other.send(data)

    def send(self, data: bytes) -> None:
        if self.peer is not None and not self.transport.is_closing():
            self.transport.sendto(data, self.peer)


class Narrow:
    """From the server to the viewer `bit_rate`, which may change; the other way is free.

    Each sees the relay's address instead of the other's: `offer` and `answer` see to that.
    """

    def __init__(self, bit_rate: float) -> None:
        self.bit_rate = bit_rate
        self.passed = 0
        self.dropped = 0
        self.to_viewer = _Side(self, is_limited=False)
        self.to_server = _Side(self, is_limited=True)
        self.to_viewer.other, self.to_server.other = self.to_server, self.to_viewer

    def offer(self, sdp: str) -> str:
        """The viewer's, as the server is to see it."""
        return _moved(sdp, self.to_server.port)

    def answer(self, sdp: str) -> str:
        """The server's, as the viewer is to see it."""
        found = re.search(r"^a=candidate:\S+ 1 udp \d+ ([\d.]+) (\d+) typ host", sdp, re.M | re.I)
        assert found is not None, sdp
        self.to_server.peer = (found[1], int(found[2]))
        return _moved(sdp, self.to_viewer.port)


def _moved(sdp: str, port: int) -> str:
    """With this one candidate, on loopback, in each section that has any."""
    ours = f"a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host"
    lines: list[str] = []
    for line in sdp.splitlines():
        if not line.startswith("a=candidate:"):
            lines.append(line)
        elif not lines[-1].startswith("a=candidate:"):
            lines.append(ours)
    return "".join(f"{line}\r\n" for line in lines)


@asynccontextmanager
async def narrow(bit_rate: float) -> AsyncIterator[Narrow]:
    line, loop = Narrow(bit_rate), asyncio.get_running_loop()
    for side in (line.to_viewer, line.to_server):
        await loop.create_datagram_endpoint(lambda side=side: side, ("127.0.0.1", 0))  # type: ignore[misc]  # mypy infers no lambda with a default
    try:
        yield line
    finally:
        line.to_viewer.transport.close()
        line.to_server.transport.close()
