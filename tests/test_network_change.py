"""A publisher whose network goes away: it may come back, and holds no lane if it does not."""

from __future__ import annotations

import aiohttp
from absences import FLAGS, absences
from media import until
from network import Network
from peers import Client, Performer
from server import serve

from stream import inside


async def test_who_comes_back_goes_on_and_who_does_not_gives_up_the_lane() -> None:
    found = await absences(away_s=2.0, give_up_s=10.0, module="impatient")
    found.check()


async def test_who_comes_back_from_another_address_goes_on_where_it_nominates_that() -> None:
    async with serve(*FLAGS) as server, aiohttp.ClientSession() as http, Network() as network:
        client = Client(network=network)
        await client.publish(http, server.base, Performer("red", 15), "aya")
        await until(lambda: len(client.seen) > 10, 10)
        nominate_always(client)
        await network.move()
        known = network.reached_peer
        # Its frames never stopped; once the new pair is nominated the avatar's come as well.
        await until(lambda: network.reached_peer > known + 50, 10)
        async with http.get(f"{server.base}/sessions/aya") as reply:
            assert (await reply.json())["state"] == "live"
        assert await client.end(http) == 200


def nominate_always(client: Client) -> None:
    """As browsers do: aiortc nominates a pair once, with its first check."""
    (ice,) = inside.transports(client.pc, "ice")
    build = ice._connection.build_request
    ice._connection.build_request = lambda pair, nominate: build(pair, nominate=True)
