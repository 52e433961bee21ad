"""Where a peer can reach us: candidates from the ports, addresses and servers of the settings."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

from aioice import Candidate
from aioice import Connection as IceConnection
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, server_reflexive_candidate
from aioice.turn import UDP_SOCKET_BUFFER_SIZE
from aiortc import RTCPeerConnection

from stream import inside
from stream.network import Network, Ports
from workers.errors import ServerFull

SERVER_S = 1.5  # for a STUN or TURN server to answer


def gather_by(connection: RTCPeerConnection, network: Network) -> None:
    """Look for candidates as the settings say; when the offer is applied, before the answer is.

    aioice's own way binds any port, tells of this machine's addresses alone, and waits 5 s for a
    server that is silent.
    """
    for transport in inside.transports(connection, "ice"):
        ice = transport._connection
        by_servers = ice.get_component_candidates
        inside.replace(ice, "get_component_candidates", _Gathering(ice, network, by_servers).gather)


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
