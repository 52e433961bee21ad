"""Where a peer is told that we can be reached."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiortc import (
    RTCIceCandidate,
    RTCSessionDescription,
)
from aiortc.sdp import SessionDescription
from media import nothing_left, offer_of
from peers import peer

from stream import gathering
from stream.network import IceServer, Network, Ports
from stream.rtc import close_quietly, new_connection
from workers.errors import ServerFull


async def gathered(network: Network) -> list[RTCIceCandidate]:
    """What a connection of ours tells a publisher of."""
    publisher, ours = peer(), new_connection(network.ice_servers)
    publisher.addTransceiver("video", "sendonly")
    try:
        await ours.setRemoteDescription(RTCSessionDescription(await offer_of(publisher), "offer"))
        gathering.gather_by(ours, network)
        await ours.setLocalDescription(await ours.createAnswer())
        (media,) = SessionDescription.parse(ours.localDescription.sdp).media
        return list(media.ice_candidates)
    finally:
        await close_quietly(ours)
        await publisher.close()


async def test_ports_come_from_the_range_and_none_free_is_a_full_server() -> None:
    async with nothing_left():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            own = (await gathered(Network()))[0].ip
            taken.bind((own, 0))
            port = taken.getsockname()[1]
            with pytest.raises(ServerFull, match=f"{port}-{port} are in use"):
                await gathered(Network(udp_ports=Ports(port, port)))
        found = await gathered(Network(udp_ports=Ports(port, port)))
        assert {it.port for it in found} == {port}


async def test_an_announced_address_is_told_with_the_port_beside_the_real_one() -> None:
    found = await gathered(Network(announce=("198.51.100.7",)))
    ports = {it.port for it in found if ":" not in it.ip and it.ip != "198.51.100.7"}
    assert ports and {it.port for it in found if it.ip == "198.51.100.7"} == ports


async def test_a_stun_server_that_is_silent_holds_an_answer_for_a_moment_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = IceServer(f"stun:127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(4):
            found = await gathered(Network(ice_servers=(server,)))
        assert found and {it.type for it in found} == {"host"}
