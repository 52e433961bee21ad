"""The clients that strangers bring, each as it comes: all of them publish, and most watch."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from cameras import needs_gstreamer
from clients import (
    LEAST,
    NPM,
    Pages,
    Told,
    Watched,
    ffmpeg,
    gstreamer,
    in_chromium,
    in_firefox,
    looking,
    stand,
)
from playwright.async_api import BrowserContext
from server import Server

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESIZE_S = 1.5
CI = os.environ.get("CI") == "true"  # there, what is missing fails

needs_firefox = pytest.mark.skipif(
    not CI and not (shutil.which("firefox-esr") or shutil.which("firefox")), reason="needs Firefox"
)
needs_npm = pytest.mark.skipif(not CI and not NPM.exists(), reason="needs scripts/npm_clients")


class Stand(NamedTuple):
    server: Server
    pages: Pages
    context: BrowserContext


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def here() -> AsyncIterator[Stand]:
    async with stand() as parts:
        yield Stand(*parts)


async def meet(
    here: Stand,
    name: str,
    publish: Callable[[asyncio.Event], Coroutine[None, None, Told]],
    *viewers: Coroutine[None, None, Told],
    least: int = LEAST,
) -> tuple[Watched, Told, list[Told]]:
    """A publisher, and viewers that come once it is live; it goes when all have seen enough."""
    over = asyncio.Event()

    async def play(viewer: Coroutine[None, None, Told]) -> Told:
        while "live" not in watched.states:  # noqa: ASYNC110 - another task's news
            await asyncio.sleep(0.02)
        return await viewer

    async def end() -> list[Told]:
        try:
            seen = await asyncio.gather(*map(play, viewers))
            while min(watched.arrived, watched.emitted) < least:  # noqa: ASYNC110 - another's news
                await asyncio.sleep(0.02)
            return seen
        finally:
            over.set()

    async with looking(here.server, name) as watched:
        try:
            async with asyncio.timeout(45):
                told, seen = await asyncio.gather(publish(over), end())
        except TimeoutError:
            raise AssertionError(watched) from None
    assert watched.states[:2] in (["joining", "live"], ["live"]), watched
    for it in (told, *seen):
        assert not it.errors, it
        assert it.frames is None or it.frames >= LEAST, it
    assert watched.viewers == len(viewers)
    return watched, told, seen


def whip(here: Stand, name: str) -> str:
    return f"{here.server.base}/whip/{name}"


def whep(here: Stand, name: str) -> str:
    return f"{here.server.base}/whep/{name}"


@needs_gstreamer
@pytest.mark.parametrize("codec", ["VP8", "H264"])
@pytest.mark.parametrize("trickle", [False, True])
async def test_webrtcbin_publishes_a_resize_in_flight_and_webrtcbin_watches(
    here: Stand, codec: str, trickle: bool
) -> None:
    name = f"gst-{codec}-{trickle}".lower()
    viewer = gstreamer(whep(here, name), codec, trickle=trickle)

    def publish(over: asyncio.Event) -> Coroutine[None, None, Told]:
        return gstreamer(whip(here, name), codec, over, trickle=trickle, resize_s=RESIZE_S)

    _, told, _ = await meet(here, name, publish, viewer, least=round(RESIZE_S * 30) + 15)
    assert told.states[-1] == "connected"
    assert bool(told.patches) is trickle and set(told.patches) <= {204}


async def test_ffmpegs_whip_muxer_publishes(here: Stand, tmp_path: Path) -> None:
    await meet(here, "ffmpeg", partial(ffmpeg, whip(here, "ffmpeg"), tmp_path))


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_chromium_publishes_and_chromium_watches(here: Stand, codec: str) -> None:
    name = f"chromium-{codec}".lower()
    _, _, (seen,) = await meet(
        here,
        name,
        partial(in_chromium, here.context, here.pages, "plain", whip(here, name), codec),
        in_chromium(here.context, here.pages, "plain", whep(here, name), codec),
    )
    assert seen.first_s is not None


@needs_npm
async def test_npm_whip_whep_publishes_and_watches_from_an_offer_without_candidates(
    here: Stand,
) -> None:
    await meet(
        here,
        "npm",
        partial(in_chromium, here.context, here.pages, "whip-whep", whip(here, "npm"), "VP8"),
        in_chromium(here.context, here.pages, "whip-whep", whep(here, "npm")),
    )


@needs_npm
async def test_eyevinns_whip_web_client_publishes(here: Stand) -> None:
    url = whip(here, "eyevinn")
    publish = partial(in_chromium, here.context, here.pages, "eyevinn", url, "VP8")
    await meet(here, "eyevinn", publish)


@needs_firefox
async def test_firefox_publishes_and_firefox_watches(here: Stand, tmp_path: Path) -> None:
    _, _, (seen,) = await meet(
        here,
        "firefox",
        partial(in_firefox, tmp_path / "publisher", here.pages, whip(here, "firefox"), "VP8"),
        in_firefox(tmp_path / "viewer", here.pages, whep(here, "firefox")),
    )
    assert seen.first_s is not None
