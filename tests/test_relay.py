"""STUN and TURN: what a real server gives is told, and leads here where nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest_asyncio
from aiortc.sdp import SessionDescription
from media import until
from network import Network
from peers import Client, Performer
from relay import Relay, needs_coturn, relay
from server import serve

pytestmark = needs_coturn
FLAGS = ("--model", "mirror", "--geometry", "64x64", "--max-sessions", "1")


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Relay]:
    async with relay(tmp_path) as it:
        yield it


async def test_the_address_that_a_stun_server_sees_is_told(server: Relay) -> None:
    async with serve(*FLAGS, "--ice-server", server.stun) as node, aiohttp.ClientSession() as http:
        client = Client()
        await client.publish(http, node.base, Performer("red", 15, 64, 64))
        (media,) = SessionDescription.parse(client.pc.remoteDescription.sdp).media
        seen = {(it.ip, it.relatedAddress) for it in media.ice_candidates if it.type == "srflx"}
        assert seen == {(server.host, server.host)}
        await client.end(http)


async def test_media_goes_through_the_turn_server_where_no_other_way_is_open(
    server: Relay,
) -> None:
    flags = (*FLAGS, "--ice-server", server.turn)
    async with (
        serve(*flags) as node,
        aiohttp.ClientSession() as http,
        Network(relay_only=True) as network,
    ):
        client = Client(network=network)
        await client.publish(http, node.base, Performer("red", 15, 64, 64), "aya")
        await until(lambda: sum(it.colour == "red" for it in client.seen) > 15, 10)
        assert network.lost > 0, "the server did not even try the straight way"
        async with http.get(f"{node.base}/sessions/aya") as reply:
            assert (await reply.json())["state"] == "live"
        assert await client.end(http) == 200
