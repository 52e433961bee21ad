"""Another portrait, mid-session: whose it is, when it is in use, and what stays as it was."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from peers import Client, Performer
from PIL import Image
from processes import shared_memory, until
from server import Server, serve

GREEN, BLUE = (40, 200, 60), (30, 40, 220)
ROSE, SKY = (220, 60, 90), (60, 120, 230)  # tests/pictures
JSON, PNG = {"Content-Type": "application/json"}, {"Content-Type": "image/png"}
FLAGS = ("--geometry", "128x128", "--max-sessions", "4", "--threads", "1")

Colour = tuple[int, int, int]
Serving = tuple[Server, aiohttp.ClientSession]

pytestmark = pytest.mark.asyncio(loop_scope="module")


def picture(colour: Colour, kind: str = "PNG", size: tuple[int, int] = (200, 160)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


def chroma(colour: Colour) -> tuple[float, float]:
    """BT.601, video range."""
    r, g, b = colour
    u = 128 + (-37.797 * r - 74.203 * g + 112 * b) / 255
    v = 128 + (112 * r - 93.786 * g - 18.214 * b) / 255
    return u, v


def wears(client: Client, colour: Colour) -> bool:
    """Whether the newest picture is of this colour."""
    return bool(client.seen) and near(client.seen[-1].chroma, colour)


def near(seen: tuple[float, float], colour: Colour) -> bool:
    return max(np.abs(np.subtract(seen, chroma(colour)))) < 9


def owned(client: Client, base: str, part: str) -> str:
    return f"{base}/sessions/{client.location.rpartition('/')[2]}/{part}"


@asynccontextmanager
async def serving(model: str, *flags: str) -> AsyncIterator[Serving]:
    async with (
        serve("--model", f"avatars:{model}", *FLAGS, *flags) as server,
        aiohttp.ClientSession() as http,
    ):
        yield server, http


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def dyed() -> AsyncIterator[Serving]:
    async with serving("Dyed") as it:
        yield it


async def published(
    http: aiohttp.ClientSession, base: str, path: str = "", fps: float = 20
) -> Client:
    client = Client()
    await client.publish(http, base, Performer("red", fps), path or None)
    await until(lambda: len(client.seen) >= 5)
    return client


async def put(
    http: aiohttp.ClientSession, url: str, data: bytes | str, headers: dict[str, str] = PNG
) -> tuple[int, str]:
    async with http.put(url, data=data, headers=headers) as answer:
        return answer.status, await answer.text()


async def frames(http: aiohttp.ClientSession, base: str, name: str) -> dict[str, Any]:
    async with http.get(f"{base}/sessions/{name}") as answer:
        found: dict[str, Any] = (await answer.json())["frames"]
        return found


async def test_a_portrait_is_changed_under_a_live_session_and_nobody_else_s() -> None:
    async with serving("DyedHeavy", "--batch", "2") as (server, http):
        mine, other = [await published(http, server.base) for _ in range(2)]
        await until(lambda: wears(mine, ROSE) and wears(other, ROSE), what="the default")
        url = owned(mine, server.base, "portrait")
        before = await frames(http, server.base, mine.name)
        for data, headers, colour in (
            (picture(GREEN), PNG, GREEN),
            (picture(BLUE, "WEBP"), {"Content-Type": "image/webp"}, BLUE),
            ('{"name": "sky"}', JSON, SKY),
            (picture(GREEN, "JPEG"), {"Content-Type": "image/jpeg; x=y"}, GREEN),
        ):
            at = len(mine.seen)
            assert await put(http, url, data, headers) == (204, "")
            # What is on its way to us may be of before; all that follows is of the new one.
            await until(lambda colour=colour: wears(mine, colour), within_s=2)
            turned = next(
                i for i, it in enumerate(mine.seen) if i >= at and near(it.chroma, colour)
            )
            await asyncio.sleep(0.3)
            assert all(near(it.chroma, colour) for it in mine.seen[turned:])
        assert all(near(it.chroma, ROSE) for it in other.seen[5:])
        after = await frames(http, server.base, mine.name)
        lost = sum(after[it] - before[it] for it in ("overwritten", "late", "failed"))
        assert lost < 4 and after["emitted"] - before["emitted"] > 20, "one for each change"
        await mine.end(http)
        await other.end(http)


async def test_an_upload_outlives_the_worker_and_so_do_the_controls(dyed: Serving) -> None:
    server, http = dyed
    client = await published(http, server.base)
    other = await published(http, server.base)
    assert (await put(http, owned(client, server.base, "portrait"), picture(GREEN)))[0] == 204
    controls = owned(client, server.base, "controls")
    async with http.patch(controls, json={"neutral": 10}) as answer:
        assert answer.status == 200
    await until(lambda: wears(client, GREEN) and client.seen[-1].edge == 255)
    dressed = len(client.seen)
    os.kill(server.worker_pid(), signal.SIGKILL)
    await server.until_line("worker is back")
    at, at_other = len(client.seen) + 3, len(other.seen) + 3
    await until(lambda: len(client.seen) > at + 10 and len(other.seen) > at_other + 10)
    assert all(near(it.chroma, GREEN) for it in client.seen[dressed:])
    assert all(it.edge == 255 for it in client.seen[at:])
    assert all(near(it.chroma, ROSE) and it.edge == 0 for it in other.seen[at_other:])

    os.kill(server.worker_pid(), signal.SIGKILL)  # a portrait that comes meanwhile waits for it
    url = owned(client, server.base, "portrait")
    assert (await put(http, url, picture(BLUE)))[0] == 204
    await until(lambda: wears(client, BLUE) and client.seen[-1].edge == 255)
    await client.end(http)
    await other.end(http)


async def test_a_session_begins_with_the_portrait_that_it_names(dyed: Serving) -> None:
    server, http = dyed
    client = Client()
    transceiver = client.pc.addTransceiver(Performer("red", 20), "sendrecv")
    await client.offer(http, f"{server.base}/whip/aya?portrait=sky")
    client._read(transceiver.receiver.track)
    await until(lambda: wears(client, SKY))
    assert not any(near(it.chroma, ROSE) for it in client.seen)
    await client.end(http)
    for query, status in (("portrait=nobody", 422), ("portrait=../x", 422)):
        stranger = Client()
        stranger.pc.addTransceiver(Performer("red", 20), "sendonly")
        with pytest.raises(Exception, match=str(status)):
            await stranger.offer(http, f"{server.base}/whip?{query}")
        await stranger.close()
    async with http.get(f"{server.base}/sessions") as answer:
        assert (await answer.json())["sessions"] == []


async def test_who_looks_at_the_portraits_has_them_prepared() -> None:
    async with serving("Dyed") as (server, http):
        before = identities_held(server)
        async with http.get(f"{server.base}/portraits") as answer:
            listed = (await answer.json())["portraits"]
        assert [(it["name"], it["default"]) for it in listed] == [("rose", True), ("sky", False)]
        await until(lambda: identities_held(server) == before + 1)
        async with http.get(listed[1]["url"]) as answer:
            shown = Image.open(io.BytesIO(await answer.read()))
        assert np.abs(np.subtract(shown.resize((1, 1)).getpixel((0, 0)), SKY)).max() < 6


async def test_a_portrait_without_a_face_is_refused_in_the_model_s_words(dyed: Serving) -> None:
    server, http = dyed
    client = await published(http, server.base)
    url = owned(client, server.base, "portrait")
    status, said = await put(http, url, picture((0, 0, 0)))
    assert status == 422 and "no face was found" in said
    assert (await put(http, url, b"GIF89a" + bytes(50)))[0] == 415
    assert (await put(http, url, picture(GREEN)[:90]))[0] == 422
    assert (await put(http, url, '{"name": "nobody"}', JSON))[0] == 422
    assert (await put(http, f"{server.base}/sessions/guessed/portrait", picture(GREEN)))[0] == 404
    await asyncio.sleep(0.3)
    assert all(near(it.chroma, ROSE) for it in client.seen[3:])
    await client.end(http)
    assert (await put(http, url, picture(GREEN)))[0] == 404


def identities_held(server: Server) -> int:
    """By the server's own process, and what it holds beside them, which stays."""
    return len(shared_memory(server.process.pid))


async def test_of_several_portraits_in_a_row_the_last_is_worn_and_the_others_let_go() -> None:
    async with serving("DyedHeavy") as (server, http):
        before = identities_held(server)
        client = await published(http, server.base)
        url = owned(client, server.base, "portrait")
        colours = [GREEN, BLUE, SKY, GREEN, BLUE]
        asked = []
        for colour in colours:
            asked.append(asyncio.create_task(put(http, url, picture(colour))))
            await asyncio.sleep(0.03)
        answers = await asyncio.gather(*asked)
        assert answers[-1] == (204, "")
        assert {status for status, _ in answers[:-1]} <= {204, 409}
        assert any(status == 409 and "newer portrait" in said for status, said in answers)
        await until(lambda: wears(client, BLUE))
        await asyncio.sleep(0.5)
        assert wears(client, BLUE)
        await until(lambda: identities_held(server) == before + 1)
        await client.end(http)
        await until(lambda: identities_held(server) == before)


async def test_a_model_without_an_identity_wears_none() -> None:
    async with serving("Invert") as (server, http):
        client = await published(http, server.base)
        status, said = await put(http, owned(client, server.base, "portrait"), picture(GREEN))
        assert status == 409 and "wears no portrait" in said
        async with http.get(f"{server.base}/portraits") as answer:
            assert await answer.json() == {"portraits": [], "uploads": False}
        await client.end(http)


async def test_a_model_that_reads_alpha_sees_what_is_opaque() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = SKY
    pixels[16:48, 16:48] = (*GREEN, 255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    async with serving("DyedAlpha") as (server, http):
        client = await published(http, server.base)
        await until(lambda: wears(client, ROSE))
        assert (await put(http, owned(client, server.base, "portrait"), file.getvalue()))[0] == 204
        await until(lambda: wears(client, GREEN))
        await client.end(http)
