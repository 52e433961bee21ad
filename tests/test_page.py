"""The page in Chromium: what a person sees, also when something is in the way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import pytest_asyncio
from browser import chromium
from page import advances, goes_live, press, reaches, tab
from page_server import LIVE, EchoStage, page_server
from playwright.async_api import Browser, Page, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGE_HOST = "omokage.test"
# Keeps what the browser was asked for, and what it gave.
ASKED = """
const { mediaDevices } = navigator, ask = mediaDevices.getUserMedia.bind(mediaDevices);
window.asked = [], window.given = [];
mediaDevices.getUserMedia = async (wishes) => {
  asked.push(wishes);
  given.push(await ask(wishes));
  return given.at(-1);
};
"""
FAILING_CAMERA = """
navigator.mediaDevices.getUserMedia = () =>
  Promise.reject(new DOMException("Could not start video source", "NotReadableError"));
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium([f"--host-resolver-rules=MAP {STRANGE_HOST} 127.0.0.1"]) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def stage() -> AsyncIterator[EchoStage]:
    async with page_server(allowed_hosts=(STRANGE_HOST,)) as stage:
        yield stage


async def says(page: Page, title: str, *, mend: str, timeout_ms: float = 8000) -> None:
    """The page names the trouble, says what to do, and offers to try again."""
    await expect(page.locator("#trouble-title")).to_have_text(title, timeout=timeout_ms)
    await expect(page.locator("#trouble-title")).to_be_visible()
    await expect(page.locator("#trouble-mend")).to_contain_text(mend)
    await expect(page.locator("#act")).to_have_text("Try again")
    await expect(page.locator("#status")).to_have_text(f"{title}.")
    assert await page.evaluate("document.getElementById('camera').srcObject") is None


async def test_one_press_plays_the_camera_and_the_avatar_over_live_figures(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await expect(page.locator("#act")).to_have_text("Start")
        await press(page)
        await goes_live(page)
        await advances(page, "#camera")
        await advances(page, "#avatar")
        for figure in ("inFps", "outFps", "latencyMs"):
            shown = page.locator(f"[data-figure={figure}]")
            await expect(shown).to_have_text(re.compile(r"^\d"), timeout=6000)
            assert float(await shown.inner_text()) > 0
        await expect(page.locator("[data-figure=fillRatio]")).to_have_text("25")
        await expect(page.locator("#rows i.real")).to_have_count(3)
        await expect(page.locator("[data-figure=memoryBytes]")).to_have_text("412")
        await expect(page.locator("#memory-kind")).to_have_text("Process memory")
        await expect(page.locator("#status")).to_have_text("You are live as aya-1.")
        assert await page.locator("#link").input_value() == f"{stage.url}watch/aya-1"


async def test_stop_ends_the_session_and_lets_go_of_the_camera(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await press(page)
        await goes_live(page)
        await page.evaluate(
            "window.track = document.getElementById('camera').srcObject.getTracks()[0]"
        )
        await press(page)
        await reaches(page, "idle")
        await expect(page.locator("#status")).to_have_text("Stopped. The camera is off.")
        assert await page.evaluate("track.readyState") == "ended"
        await _until(lambda: stage.ended == ["secret-aya-1"])


async def test_a_closed_tab_ends_its_session(browser: Browser, stage: EchoStage) -> None:
    async with tab(browser, stage.url) as page:
        await press(page)
        await goes_live(page)
        await page.close(run_before_unload=True)
        await _until(lambda: stage.ended == ["secret-aya-1"])


async def test_a_refused_camera_is_named(browser: Browser, stage: EchoStage) -> None:
    async with tab(browser, stage.url, permissions=[]) as page:
        await press(page)
        await says(page, "The camera is not allowed", mend="Allow the camera")
    assert not stage.performers


async def test_a_missing_camera_is_named(stage: EchoStage) -> None:
    async with (
        chromium(["--use-fake-device-for-media-stream=device-count=0"]) as cameraless,
        tab(cameraless, stage.url) as page,
    ):
        await press(page)
        await says(page, "No camera found", mend="Plug one in")


async def test_a_camera_that_another_app_holds_is_named(browser: Browser, stage: EchoStage) -> None:
    async with tab(browser, stage.url, script=FAILING_CAMERA) as page:
        await press(page)
        await says(page, "The camera gives no picture", mend="Close other apps")
        await expect(page.locator("#trouble-why")).to_contain_text("in use by another app")


async def test_a_page_that_is_not_secure_says_so_before_any_press(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, f"http://{STRANGE_HOST}:{stage.port}/") as page:
        await says(page, "This page is not secure", mend="with --https")
        await expect(page.locator("#trouble-mend")).to_contain_text("localhost")


async def test_a_full_server_is_named_and_trying_again_helps(
    browser: Browser, stage: EchoStage
) -> None:
    stage.is_full = True
    async with tab(browser, stage.url) as page:
        await press(page)
        await says(page, "The server is full", mend="Try again in a moment")
        await expect(page.locator("#trouble-said")).to_contain_text("all 16 places are taken")
        stage.is_full = False
        await press(page)
        await goes_live(page)


async def test_a_connection_that_finds_no_way_names_ice(browser: Browser, stage: EchoStage) -> None:
    stage.is_deaf = True
    async with tab(browser, stage.url, clock=True) as page:
        async with page.expect_response("**/whip"):
            await press(page)
        await expect(page.locator("#link")).not_to_have_value("")
        await page.clock.fast_forward(16_000)
        await says(page, "The connection failed: ICE found no way", mend="UDP")


# A state may pass more quickly than somebody who looks now and then could see.
NOTE_STATES = """() => {
  window.states = [];
  new MutationObserver(() => states.push(document.body.dataset.state))
    .observe(document.body, { attributes: true, attributeFilter: ["data-state"] });
}"""


async def test_a_server_that_goes_away_is_missed(browser: Browser) -> None:
    async with AsyncExitStack() as server:
        stage = await server.enter_async_context(page_server())
        async with tab(browser, stage.url) as page:
            await press(page)
            await goes_live(page)
            await server.aclose()
            await says(page, "The server is gone", mend="Check that it runs", timeout_ms=12_000)
            await page.evaluate(NOTE_STATES)
            await press(page)
            await page.wait_for_function("states.at(-1) === 'trouble'", timeout=8_000)
            assert "starting" in await page.evaluate("states"), "it did not try again"
            await says(page, "The server is gone", mend="Check that it runs")


async def test_a_session_that_the_server_ends_is_no_server_gone(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await press(page)
        await goes_live(page)
        await stage.end("secret-aya-1")
        await says(page, "The session has ended", mend="Start another one")


async def test_a_warming_server_is_waited_for(browser: Browser, stage: EchoStage) -> None:
    stage.reason = "the worker warms up"
    async with tab(browser, stage.url) as page:
        await press(page)
        await reaches(page, "warming")
        await expect(page.locator("#status")).to_contain_text("The server is warming up")
        await expect(page.locator("#act")).to_have_text("Cancel")
        stage.reason = None
        await goes_live(page)


async def test_a_wrong_token_is_named_and_the_right_one_leaves_the_bar(browser: Browser) -> None:
    async with page_server(token="open-sesame") as stage, tab(browser, stage.url) as page:
        await press(page)
        await says(page, "The server wants a token", mend="#token=")
        await page.goto(f"{stage.url}#token=open-sesame")
        await expect(page).to_have_url(stage.url)
        await press(page)
        await goes_live(page)
        await expect(page.locator("#badge")).to_have_text("Live")
        await press(page)
        await _until(lambda: stage.ended == ["secret-aya-1"])
        async with tab(browser, f"{stage.url}#token=open-sesame") as fresh:
            await expect(fresh).to_have_url(stage.url)


async def test_what_the_server_says_is_shown_as_text(browser: Browser, stage: EchoStage) -> None:
    stage.refusal = "<b>no</b> video of this kind"
    async with tab(browser, stage.url) as page:
        await press(page)
        await says(page, "The server refused", mend="See what it says")
        await expect(page.locator("#trouble-said")).to_have_text(
            "The server says: <b>no</b> video of this kind"
        )


async def test_a_silent_camera_is_told(browser: Browser, stage: EchoStage) -> None:
    stage.facts = replace(LIVE, state="holding")
    async with tab(browser, stage.url) as page:
        await press(page)
        await expect(page.locator("#status")).to_contain_text("the last avatar", timeout=8000)
        await expect(page.locator("#badge")).to_have_text("Holding")


async def test_the_keyboard_alone_starts_and_stops(browser: Browser, stage: EchoStage) -> None:
    async with tab(browser, stage.url) as page:
        await page.keyboard.press("Tab")
        button = page.locator("#act")
        await expect(button).to_be_focused()
        assert await button.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await goes_live(page)
        await expect(button).to_be_focused()
        await page.keyboard.press("Space")
        await reaches(page, "idle")


async def test_the_microphone_is_off_until_it_is_pressed_and_off_again_after(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url, permissions=["camera", "microphone"], script=ASKED) as page:
        await expect(page.locator("#voice")).to_be_hidden()
        await press(page)
        await goes_live(page)
        assert await page.evaluate("asked.map((it) => Boolean(it.audio))") == [False]
        button = page.locator("#voice")
        await expect(button).to_have_attribute("aria-pressed", "false")
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#status")).to_contain_text("The microphone is on.")
        assert await page.evaluate("given[1].getTracks()[0].readyState") == "live"
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "false")
        assert await page.evaluate("given[1].getTracks()[0].readyState") == "ended"
        await button.click()
        await expect(button).to_have_attribute("aria-pressed", "true")
        await press(page)
        await reaches(page, "idle")
        assert await page.evaluate("given[2].getTracks()[0].readyState") == "ended"


async def test_a_refused_microphone_is_told_and_the_picture_goes_on(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await press(page)
        await goes_live(page)
        await page.locator("#voice").click()
        await expect(page.locator("#status")).to_contain_text("The microphone is not to be had")
        await expect(page.locator("#voice")).to_have_attribute("aria-pressed", "false")
        await advances(page, "#avatar")


async def test_nothing_is_wider_than_a_phone(browser: Browser, stage: EchoStage) -> None:
    overhang = "document.documentElement.scrollWidth - innerWidth"
    async with tab(browser, stage.url, viewport={"width": 360, "height": 740}) as page:
        assert await page.evaluate(overhang) <= 0
        await press(page)
        await goes_live(page)
        assert await page.evaluate(overhang) <= 0
        tops = [
            await page.locator(it).evaluate("it => it.getBoundingClientRect().top")
            for it in (".panel.avatar", ".panel.camera", ".figures")
        ]
        assert tops == sorted(set(tops)), "one below the other"


async def test_a_dark_theme_is_dark(browser: Browser, stage: EchoStage) -> None:
    async with tab(browser, stage.url, color_scheme="dark") as page:
        paper = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", paper))) < 64


async def test_a_viewer_waits_for_a_session_follows_it_and_waits_again(
    browser: Browser, stage: EchoStage
) -> None:
    async with (
        tab(browser, f"{stage.url}watch/aya-1", permissions=[]) as viewer,
        tab(browser, stage.url) as page,
    ):
        title = viewer.locator("#title")
        await expect(title).to_have_text("Nobody is here yet")
        await press(page)
        await goes_live(page)
        await reaches(viewer, "live", timeout_ms=12_000)
        await advances(viewer, "#avatar")
        await expect(page.locator("#status")).to_have_text("You are live as aya-1, with 1 viewer.")
        await press(page)
        await expect(title).to_have_text(
            re.compile("The session has ended|Nobody is here yet"), timeout=6000
        )


async def test_a_viewer_without_the_token_is_told_so(browser: Browser) -> None:
    async with (
        page_server(token="open-sesame") as stage,
        tab(browser, f"{stage.url}watch/aya") as viewer,
    ):
        await expect(viewer.locator("#title")).to_have_text("The server wants a token")
        await expect(viewer.locator("#act")).to_be_visible()


async def test_latency_is_the_sum_of_its_parts_and_unknown_without_one(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        shown = await page.evaluate(
            """async () => {
              const { counters, figures } = await import("/web/figures.js");
              const at = (n, atMs) => counters([
                { type: "outbound-rtp", kind: "video", framesSent: 25 * n, framesEncoded: 25 * n,
                  totalEncodeTime: 0.1 * n, packetsSent: 50 * n, totalPacketSendDelay: 0.05 * n },
                { type: "inbound-rtp", kind: "video", framesDecoded: 20 * n,
                  totalProcessingDelay: 0.3 * n },
                { type: "candidate-pair", nominated: true, currentRoundTripTime: 0.006 },
              ], atMs);
              return [{ age_ms: 30 }, null].map((facts) => figures(at(1, 0), at(2, 1000), facts));
            }"""
        )
    with_server, without = shown
    # 4 ms encoding + 1 ms sending + 6 ms round trip + 30 ms in the server + 15 ms receiving
    assert with_server["latencyMs"] == pytest.approx(56.0)
    assert (with_server["inFps"], with_server["outFps"]) == (25.0, 20.0)
    assert without["latencyMs"] is None


async def _until(claim: Callable[[], bool], timeout_s: float = 4.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not claim():  # noqa: ASYNC110  # the claim is about a server that knows no event
            await asyncio.sleep(0.02)
