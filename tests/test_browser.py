"""The real server in real Chromium, from the camera to the picture that a person sees."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from browser import chromium
from cameras import camera, needs_gstreamer
from listener import Listener, listening
from page import (
    Picture,
    advances,
    goes_live,
    picture,
    played,
    press,
    reaches,
    tab,
)
from playwright.async_api import Browser, Page, expect
from server import Server, free_port, serve

from stream.mqtt import Address

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEGATIVES = ("--model", "avatars:Invert", "--batch", "4")
CAMERA_FPS = 12
SAME = 12.0  # mean absolute error: codec, scaling, and what moved meanwhile
STILL = 3.0  # of one picture, encoded twice

OBSERVE_STATES = """
window.states = [];
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => states.push(document.body.dataset.state))
    .observe(document.body, { attributeFilter: ["data-state"] });
});
"""

KEEP_PEER = """
const Peer = RTCPeerConnection;
window.RTCPeerConnection = class extends Peer {
  constructor(...options) { super(...options); window.peer = this; }
};
"""
# Packets that came, and the energy of what was played of them.
HEARD = """async () => {
  const sound = [...(await peer.getStats()).values()]
    .find((it) => it.type === "inbound-rtp" && it.kind === "audio");
  return sound ? [sound.packetsReceived, sound.totalAudioEnergy] : null;
}"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


def mqtt(server: Server) -> Address:
    return Address("127.0.0.1", server.broker_port)


async def sessions(server: Server) -> list[dict[str, Any]]:
    def ask() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{server.base}/sessions", timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["sessions"]
            return found

    return await asyncio.to_thread(ask)


async def until_no_session(server: Server, within_s: float = 5.0) -> None:
    end_s = time.monotonic() + within_s
    while found := await sessions(server):
        assert time.monotonic() < end_s, found
        await asyncio.sleep(0.05)


def states_of(listener: Listener, name: str) -> list[str]:
    return [it.said["state"] for it in listener.of(f"session/{name}")]


def cleared(listener: Listener, name: str) -> bool:
    last = [it for it in listener.heard if it.topic.endswith(f"/session/{name}")][-1]
    return not last.payload


def apart(one: Picture, other: Picture) -> float:
    """Mean absolute error."""
    return float(np.abs(one - other).mean())


async def test_one_press_makes_an_avatar_that_others_watch_while_mqtt_tells_of_it(
    browser: Browser,
) -> None:
    async with serve() as server, listening(mqtt(server), "omokage/#") as listener:
        async with tab(browser, f"{server.base}/") as page:
            await press(page)
            await goes_live(page)
            for video in ("#camera", "#avatar"):
                await advances(page, video, frames=20)
            for figure in ("inFps", "outFps", "latencyMs", "fillRatio", "memoryBytes"):
                shown = page.locator(f"[data-figure={figure}]")
                await expect(shown).to_have_text(re.compile(r"^\d"), timeout=6000)
            assert float(await page.locator("[data-figure=outFps]").inner_text()) > 1
            assert int(await page.locator("[data-figure=memoryBytes]").inner_text()) > 50
            await expect(page.locator("#badge")).to_have_text("Live")

            [session] = await sessions(server)
            name = session["name"]
            await expect(page.locator("#status")).to_have_text(f"You are live as {name}.")
            await listener.until(lambda it: "live" in states_of(it, name))
            await listener.until(
                lambda it: any(
                    said["sessions"] == 1 and said["frames_emitted_total"] > 10
                    for said in (heard.said for heard in it.of("worker/0/summary"))
                )
            )
            async with tab(browser, f"{server.base}/watch/{name}", permissions=[]) as viewer:
                await reaches(viewer, "live")
                await advances(viewer, "#avatar", frames=20)
                await expect(page.locator("#status")).to_contain_text("with 1 viewer")
                await advances(page, "#avatar", frames=20)

                await press(page)
                await reaches(page, "idle")
                await until_no_session(server)
                await listener.until(lambda it: cleared(it, name))
                assert states_of(listener, name)[-1] == "ended"
                await expect(viewer.locator("#title")).to_have_text(
                    re.compile("The session has ended|Nobody is here yet"), timeout=6000
                )


async def test_a_viewer_hears_the_performer_once_each_has_switched_it_on(browser: Browser) -> None:
    async with (
        serve("--model", "mirror") as server,
        tab(browser, f"{server.base}/", permissions=["camera", "microphone"]) as page,
    ):
        await press(page)
        await goes_live(page)
        [session] = await sessions(server)
        watch = f"{server.base}/watch/{session['name']}"
        async with tab(browser, watch, permissions=[], script=KEEP_PEER) as viewer:
            await reaches(viewer, "live")
            await asyncio.sleep(0.5)
            assert await viewer.evaluate(HEARD) is None  # not a packet
            await page.locator("#voice").click()
            async with asyncio.timeout(10):
                while (await viewer.evaluate(HEARD) or [0, 0])[0] < 50:  # noqa: ASYNC110  # a counter
                    await asyncio.sleep(0.1)
            assert (await viewer.evaluate(HEARD))[1] == 0  # muted, as browsers want it
            await viewer.locator("#sound").click()
            async with asyncio.timeout(10):
                while (await viewer.evaluate(HEARD))[1] == 0:  # noqa: ASYNC110  # another
                    await asyncio.sleep(0.1)
            await advances(viewer, "#avatar", frames=20)
            assert await viewer.evaluate("[avatar.muted, avatar.paused]") == [False, False]


async def test_the_pixels_of_the_avatar_are_the_inverted_cameras(browser: Browser) -> None:
    async with serve(*NEGATIVES) as server, tab(browser, f"{server.base}/") as page:
        await press(page)
        await goes_live(page)
        await advances(page, "#avatar", frames=20)  # past the first, coarse pictures
        errors: list[float] = []
        squeezed_errors: list[float] = []
        for _ in range(12):
            avatar = await picture(page, "#avatar")
            own = await picture(page, "#camera")
            squeezed = await picture(page, "#camera", cover=False)
            errors.append(apart(avatar, 255 - own))
            squeezed_errors.append(apart(avatar, 255 - squeezed))
            assert apart(avatar, own) > 100, "the camera was shown"
            # Most of the fake camera's picture stands still: there only the codec is between.
            assert float(np.median(np.abs(avatar - (255 - own)))) < 4
            await asyncio.sleep(0.1)
        assert median(errors) < SAME, errors
        assert median(errors) < median(squeezed_errors), "it is not the centre square"


@needs_gstreamer
async def test_a_camera_over_rtsp_plays_at_its_own_rate_and_comes_back_after_a_restart(
    browser: Browser,
) -> None:
    port = free_port()
    url = f"rtsp://127.0.0.1:{port}/camera"
    flags = (*NEGATIVES, "--geometry", "128x128", "--rtsp", f"door={url}")
    async with serve(*flags) as server:
        async with tab(browser, f"{server.base}/watch/door", permissions=[]) as page:
            async with camera(port=port, fps=CAMERA_FPS):
                await reaches(page, "live")
                await advances(page, "#avatar", within_s=8)
                rates: list[float] = []
                while not rates or not 0.75 * CAMERA_FPS < rates[-1] < 1.25 * CAMERA_FPS:
                    assert len(rates) < 4, rates  # a busy machine may spoil one of them
                    rates.append(await frames_per_s(page, seconds=2.5))
                # A white ball before black, so its negative is bright.
                assert (await picture(page, "#avatar")).mean() > 160
            await expect(page.locator("#badge")).to_have_text("Holding the last picture")
            held = await picture(page, "#avatar")
            for _ in range(6):
                now = await picture(page, "#avatar")
                assert apart(now, held) < STILL
                assert now.mean() > 160, "neither the camera nor black"
                await asyncio.sleep(0.2)
            await reaches(page, "live")
            async with camera(port=port, fps=CAMERA_FPS):
                await expect(page.locator("#badge")).to_have_text("Live", timeout=8000)
                await advances(page, "#avatar", frames=10)
                assert (await picture(page, "#avatar")).mean() > 160


async def test_a_killed_worker_holds_the_picture_and_breaks_no_connection(
    browser: Browser,
) -> None:
    async with serve(*NEGATIVES) as server, listening(mqtt(server), "omokage/#") as listener:
        async with tab(browser, f"{server.base}/", script=OBSERVE_STATES) as page:
            await press(page)
            await goes_live(page)
            await advances(page, "#avatar", frames=20)
            await expect(page.locator("#status")).to_contain_text("You are live as")
            status = await page.locator("#status").inner_text()

            os.kill(server.worker_pid(), signal.SIGKILL)
            async with asyncio.timeout(40):
                while not restarted(listener):
                    own, avatar = await picture(page, "#camera"), await picture(page, "#avatar")
                    assert apart(avatar, own) > 100, "the camera was shown"
                    assert avatar.mean() > 100, "the picture went black"
                    await asyncio.sleep(0.1)
            # A held picture comes again once a second: this many are new ones.
            await advances(page, "#avatar", frames=25, within_s=10)
            assert apart(await picture(page, "#avatar"), await picture(page, "#camera")) > 100

            assert list(dict.fromkeys(await page.evaluate("states"))) == ["starting", "live"]
            await expect(page.locator("#badge")).to_have_text("Live")
            assert await page.locator("#status").inner_text() == status
            assert len(await sessions(server)) == 1


def restarted(listener: Listener) -> bool:
    return any(it.said["event_type"] == "worker_restarted" for it in listener.of("event"))


async def frames_per_s(page: Page, seconds: float) -> float:
    before, began_s = await played(page, "#avatar"), time.monotonic()
    await asyncio.sleep(seconds)
    return (await played(page, "#avatar") - before) / (time.monotonic() - began_s)
