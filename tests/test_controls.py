"""A session's live numbers: over REST, over the data channel, and in whose picture they show."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiortc import RTCDataChannel
from peers import Client, Performer
from processes import until
from test_portraits import ROSE, Serving, near, owned, published, serving

from stream.control_channel import BURST, ControlChannel, Rate
from stream.controls import Controls, read_json
from workers.errors import ControlRefused
from workers.messages import ControlRange

RANGES = {"strength": ControlRange(0.0, 2.0, 1.0), "neutral": ControlRange(0.0, 10.0, 0.0)}


def test_controls_begin_with_their_defaults_and_change_by_name() -> None:
    heard: list[object] = []
    controls = Controls(RANGES)
    controls.listen(heard.append)
    assert controls.values == {"strength": 1.0, "neutral": 0.0}
    controls.change({"strength": 2})
    assert controls.values == {"strength": 2.0, "neutral": 0.0}
    controls.replace({"neutral": 3})
    assert controls.values == {"strength": 1.0, "neutral": 3.0}
    assert heard == [{"strength": 2.0}, {"strength": 1.0, "neutral": 3.0}]
    assert controls.told()["controls"]["neutral"] == {  # type: ignore[index]  # JSON
        "value": 3.0, "low": 0.0, "high": 10.0, "default": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"strenght": 1}', "no control 'strenght': it has strength, neutral"),
        ('{"strength": 2.5}', "strength must be a number from 0 to 2: it was 2.5"),
        ('{"strength": -0.1}', "from 0 to 2"),
        ('{"strength": "1"}', "a number from 0 to 2"),
        ('{"strength": true}', "a number from 0 to 2"),
        ('{"strength": null}', "a number from 0 to 2"),
        ('{"strength": NaN}', "from 0 to 2"),
        ('{"strength": 1e999}', "from 0 to 2"),
        ('{"strength": ' + "9" * 400 + "}", "from 0 to 2"),
        ("[1]", "an object"),
        ("1", "an object"),
        ("", "no JSON"),
        ('{"strength": 1', "no JSON"),
        ("[" * 4000, "no JSON"),
        ('{"strength": ' + "9" * 4050 + "}", "from 0 to 2"),
    ],
)
def test_what_cannot_be_set_is_told_with_the_range_and_changes_nothing(
    text: str, says: str
) -> None:
    controls = Controls(RANGES)
    with pytest.raises(ControlRefused, match=says):
        controls.change(read_json(text))
    with pytest.raises(ControlRefused):
        controls.change({"neutral": 5, "strength": 99})
    assert controls.values == {"strength": 1.0, "neutral": 0.0}


def test_a_rate_is_a_burst_and_then_so_many_a_second() -> None:
    rate = Rate(per_s=10, burst=5)
    assert [rate.allows(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [rate.allows(100.25) for _ in range(3)] == [True] * 2 + [False]
    assert [rate.allows(200.0) for _ in range(6)] == [True] * 5 + [False]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def dyed() -> AsyncIterator[Serving]:
    async with serving("Dyed") as it:
        yield it


async def opened(client: Client, label: str = "controls") -> tuple[RTCDataChannel, list[Any]]:
    """To be called before the offer."""
    channel = client.pc.createDataChannel(label)
    heard: list[Any] = []
    channel.on("message", lambda text: heard.append(json.loads(text)))
    return channel, heard


async def with_channels(
    http: aiohttp.ClientSession, base: str, *labels: str
) -> tuple[Client, list[tuple[RTCDataChannel, list[Any]]]]:
    client = Client()
    channels = [await opened(client, label) for label in labels]
    await client.publish(http, base, Performer("red", 20))
    await until(lambda: len(client.seen) >= 5)
    return client, channels


@pytest.mark.asyncio(loop_scope="module")
async def test_controls_go_over_the_data_channel_and_rest_and_reach_the_picture(
    dyed: Serving,
) -> None:
    server, http = dyed
    client, [(channel, heard)] = await with_channels(http, server.base, "controls")
    url = owned(client, server.base, "controls")
    other = await published(http, server.base)
    await until(lambda: heard)
    assert heard[0]["controls"]["strength"] == {
        "value": 1.0, "low": 0.0, "high": 1.0, "default": 1.0,
    }  # fmt: skip
    channel.send('{"strength": 0}')
    await until(lambda: len(heard) == 2)
    assert heard[1]["controls"]["strength"]["value"] == 0.0
    await until(lambda: client.seen[-1].colour == "red", what="the performer's own picture")
    assert near(other.seen[-1].chroma, ROSE)

    channel.send('{"strength": 7}')
    await until(lambda: len(heard) == 3)
    assert heard[2] == {"error": "strength must be a number from 0 to 1: it was 7"}

    async with http.patch(url, json={"strength": 1.0}) as answer:
        said = await answer.json()
    assert said["controls"]["strength"]["value"] == 1.0
    await until(lambda: len(heard) == 4)
    assert heard[3] == said, "who listens on the channel hears of it"
    await until(lambda: near(client.seen[-1].chroma, ROSE))
    async with http.put(url, json={"neutral": 10}) as answer:
        assert (await answer.json())["controls"]["neutral"]["value"] == 10.0
    await until(lambda: client.seen[-1].edge == 255)
    async with http.get(url) as answer:
        assert (await answer.json())["controls"]["neutral"]["value"] == 10.0
    async with http.get(f"{server.base}/state") as answer:
        state = await answer.json()
    assert state["takes_portraits"] and state["controls"]["neutral"]["high"] == 10.0
    await client.end(http)
    await other.end(http)
    async with http.get(url) as answer:
        assert answer.status == 404


@pytest.mark.asyncio(loop_scope="module")
async def test_a_hostile_channel_is_ignored_or_closed_and_the_picture_goes_on(
    dyed: Serving,
) -> None:
    server, http = dyed
    client, channels = await with_channels(http, server.base, "controls", "chat")
    (channel, heard), (chat, _) = channels
    await until(lambda: heard and chat.readyState in ("closing", "closed"))
    channel.send(b"\x00\x01")
    channel.send("x" * 5000)
    for _ in range(round(BURST) + 80):
        channel.send('{"neutral": 3}')
    await until(lambda: len(heard) > BURST)
    await asyncio.sleep(0.5)
    assert len(heard) < BURST + 70, "beyond the rate nothing is answered"

    channel.send("y" * 200_000)  # of so many pieces none of ours is
    await until(lambda: channel.readyState == "closed")
    at = len(client.seen)
    await until(lambda: len(client.seen) > at + 10, what="the avatar")
    async with http.patch(owned(client, server.base, "controls"), json={"neutral": 10}) as it:
        assert it.status == 200
    await until(lambda: client.seen[-1].edge == 255)
    await client.end(http)
    await server.until_line(r"control messages ignored: session=\S+ n=\d\d")


def test_a_channel_that_takes_nothing_is_told_no_more() -> None:
    class Stuck:
        label, readyState, bufferedAmount = "controls", "open", 1 << 20
        sent: list[str] = []  # noqa: RUF012  # one of it is made

        def on(self, event: str, heard: object) -> None: ...

        def send(self, text: str) -> None:
            self.sent.append(text)

    controls = Controls(RANGES)
    ControlChannel(controls).opened(Stuck())  # type: ignore[arg-type]  # what is used of it
    controls.change({"strength": 2})
    assert Stuck.sent == []
