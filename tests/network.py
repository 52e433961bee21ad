"""A network between two peers that loses packets, or all of them for a while."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Self

_CANDIDATE = re.compile(
    r"a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ (host|relay).*", re.I
)

Address = tuple[str, int]


class Network:
    """Two UDP sockets that forward to each other; the peers' descriptions lead through them.

    `way_to_server` is given the offer and `way_to_peer` the answer, each gives back the one to
    pass on. Loss takes datagrams of every kind, both ways.
    """

    def __init__(self, seed: int = 1, *, relay_only: bool = False) -> None:
        """relay_only: nothing comes from the server but by the relayed candidate of its answer."""
        self._relay_only = relay_only
        self.loss = 0.0  # of datagrams, each way
        self.is_cut = False
        self.lost = 0
        self.passed = 0
        self._dice = random.Random(seed)
        self._near = _End(self)  # where the peer sends to
        self._far = _End(self)  # where the server sends to

    async def __aenter__(self) -> Self:
        self._near.other, self._far.other = self._far, self._near
        return self

    async def __aexit__(self, *_: object) -> None:
        self._near.close()
        self._far.close()

    async def way_to_server(self, offer: str) -> str:
        return await self._lead(offer, self._near, self._far, "host")

    async def way_to_peer(self, answer: str) -> str:
        kind = "relay" if self._relay_only else "host"
        return await self._lead(answer, self._far, self._near, kind)

    async def _lead(self, description: str, to: _End, seen: _End, kind: str) -> str:
        """What reaches `to.other` goes on to who wrote it; its reader is told to send to `seen`."""
        lines, written = [], False
        for line in description.splitlines():
            if not line.startswith("a=candidate:"):
                lines.append(line)
            elif not written and (found := _CANDIDATE.match(line)) and found[3] == kind:
                to.peer = (found[1], int(found[2]))
                host, port = await seen.open(found[1])
                lines.append(f"a=candidate:1 1 udp 2130706431 {host} {port} typ host")
                written = True
        assert written, f"no {kind} candidate of IPv4"
        return "".join(f"{line}\r\n" for line in lines)

    @property
    def reached_peer(self) -> int:
        """Datagrams."""
        return self._near.sent

    async def move(self) -> None:
        """From now on the server sees the peer at another port, as behind a NAT that forgot it."""
        assert self._far.host is not None
        self._far.close()
        await self._far.open(self._far.host)

    def loses(self, end: _End, sender: Address) -> bool:
        strays = self._relay_only and end is self._far and sender != end.peer
        lost = strays or self.is_cut or self._dice.random() < self.loss
        self.lost += lost
        self.passed += not lost
        return lost


class _End(asyncio.DatagramProtocol):
    """One of the sockets: what comes in here leaves by the other, to the other's peer."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._transport: asyncio.DatagramTransport | None = None
        self.other: _End = self
        self.peer: Address | None = None
        self.host: str | None = None
        self.sent = 0

    async def open(self, host: str) -> Address:
        self.host = host
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0))
        address: Address = self._transport.get_extra_info("sockname")
        return address

    def datagram_received(self, data: bytes, sender: Address) -> None:
        out = self.other
        if self._network.loses(self, sender) or out._transport is None or out.peer is None:
            return
        out._transport.sendto(data, out.peer)
        out.sent += 1

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
