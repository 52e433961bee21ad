"""The page's portraits and sliders in Chromium: by mouse, by keyboard, and when refused."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from browser import chromium
from page import goes_live, picture, press, tab
from page_server import PICTURES, RANGES, EchoStage, page_server
from PIL import Image
from playwright.async_api import Browser, Page, expect
from server import serve

from workers.picture import read_picture

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = "#portraits input[value='*']"
CHECKED = "#portraits input:checked"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def stage() -> AsyncIterator[EchoStage]:
    async with page_server() as stage:
        stage.pictures, stage.ranges, stage.takes_portraits = PICTURES, RANGES, True
        yield stage


def photo(
    kind: str = "JPEG",
    size: tuple[int, int] = (1600, 1200),
    colour: tuple[int, int, int] = (40, 200, 60),
) -> dict[str, str | bytes]:
    """Lying on its side, as a phone writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "A secret maker"
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, exif=exif)
    return {"name": "me.jpg", "mimeType": f"image/{kind.lower()}", "buffer": file.getvalue()}


async def until(claim: Callable[[], object], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110  # the claim is about a server that knows no event
            await asyncio.sleep(0.02)


async def live(page: Page) -> None:
    await press(page)
    await goes_live(page)


def value_of(stage: EchoStage, name: str) -> float:
    (performer,) = stage.performers.values()
    return performer.controls.values[name]


async def test_a_model_without_portraits_or_controls_shows_none(browser: Browser) -> None:
    async with page_server() as stage, tab(browser, stage.url) as page:
        await expect(page.locator(".dress")).to_be_hidden()
        await live(page)
        await expect(page.locator(".dress")).to_be_hidden()


async def test_a_portrait_that_is_chosen_before_the_start_is_worn_from_the_first(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await expect(page.locator("#portraits img:visible")).to_have_count(2)
        await expect(page.locator(CHECKED)).to_have_attribute("value", "rose")
        await page.locator("#portraits label[title=Sky]").click()
        await live(page)
        assert stage.worn == ["sky"]
        await expect(page.locator(CHECKED)).to_have_attribute("value", "sky")


async def test_a_server_that_takes_its_time_over_a_picture_is_waited_for(
    browser: Browser, stage: EchoStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly, at_once = asyncio.Event(), stage.portrait_file

    async def portrait_file(name: str) -> bytes:
        await slowly.wait()
        return await at_once(name)

    monkeypatch.setattr(stage, "portrait_file", portrait_file)
    async with tab(browser, stage.url, clock=True) as page:
        await expect(page.locator("#portraits input")).to_have_count(2)
        await page.clock.run_for(10_000)
        slowly.set()
        await expect(page.locator("#portraits img:visible")).to_have_count(2)


async def test_the_arrow_keys_change_the_portrait_of_a_live_session(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await live(page)
        assert stage.worn == [None]
        await page.locator(CHECKED).focus()
        await page.keyboard.press("ArrowRight")
        await until(lambda: stage.worn == [None, "sky"])
        await expect(page.locator(CHECKED)).to_be_focused()
        await page.keyboard.press("ArrowLeft")
        await until(lambda: stage.worn == [None, "sky", "rose"])
        await page.keyboard.press("Tab")
        await expect(page.locator("#upload")).to_be_focused()


async def test_a_picture_of_one_s_own_is_sent_small_upright_and_without_its_metadata(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await live(page)
        await page.locator("#upload").set_input_files(photo())
        await until(lambda: len(stage.worn) == 2)
        sent = stage.worn[-1]
        assert isinstance(sent, bytes) and b"secret maker" not in sent
        picture = read_picture(sent)
        assert (picture.width, picture.height) == (768, 1024)
        await expect(page.locator(CHECKED)).to_have_attribute("value", "*")
        await page.locator("#portraits label[title=Rose]").click()
        await page.locator("#portraits label[title='Your own picture']").click()
        await until(lambda: stage.worn[2:] == ["rose", sent])


async def test_a_picture_that_is_chosen_before_the_start_is_worn_after_it(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await page.locator("#upload").set_input_files(photo("PNG", (300, 400)))
        await expect(page.locator(CHECKED)).to_have_attribute("value", "*")
        await live(page)
        await until(lambda: len(stage.worn) == 2)
        assert stage.worn[0] is None and isinstance(stage.worn[1], bytes)


async def test_a_portrait_that_is_refused_is_told_and_the_one_before_stays(
    browser: Browser, stage: EchoStage
) -> None:
    stage.is_faceless = True
    async with tab(browser, stage.url) as page:
        await live(page)
        await page.locator("#upload").set_input_files(photo())
        said = page.locator("#dress-said")
        await expect(said).to_have_text(
            "The server says: no face was found in the portrait: send one that shows one"
        )
        await expect(page.locator(CHECKED)).to_have_attribute("value", "rose")
        await page.locator("#upload").set_input_files(
            {"name": "song.mp3", "mimeType": "audio/mpeg", "buffer": b"ID3" + bytes(500)}
        )
        await expect(said).to_contain_text("send a picture as image/png")
        await page.locator("#portraits label[title=Sky]").click()
        await expect(said).to_be_empty()
        await expect(page.locator("body")).to_have_attribute("data-state", "live")


@pytest.mark.parametrize("over_channel", [True, False], ids=["data channel", "HTTP"])
async def test_sliders_set_the_session_s_numbers(
    browser: Browser, stage: EchoStage, over_channel: bool
) -> None:
    stage.takes_channels = over_channel
    asked: list[str] = []
    async with tab(browser, stage.url) as page:
        page.on("request", lambda it: asked.append(it.method) if "controls" in it.url else None)
        if not over_channel:
            await page.evaluate(
                "RTCPeerConnection.prototype.createDataChannel = () =>"
                " Object.assign(new EventTarget(), { readyState: 'connecting' })"
            )
        await live(page)
        sliders = page.locator("#sliders input")
        await expect(sliders).to_have_count(2)
        assert await page.locator("#sliders span").all_inner_texts() == [
            "Expression",
            "Head motion",
        ]
        await sliders.nth(0).fill("1.5")
        await until(lambda: value_of(stage, "expression") == 1.5)
        await expect(page.locator("#sliders output").nth(0)).to_have_text("1.50")
        await sliders.nth(1).focus()
        for _ in range(3):
            await page.keyboard.press("ArrowLeft")
        await until(lambda: value_of(stage, "head-motion") == pytest.approx(0.97))
        for wanted in (1, 2, 3, 0):  # after its highest it begins anew
            await page.locator("#neutral").click()
            await until(lambda wanted=wanted: value_of(stage, "neutral") == wanted)
        await expect(page.locator("#neutral")).to_have_text("Taken")
        await page.locator("#reset").click()
        await until(lambda: value_of(stage, "expression") == 1.0)
        assert value_of(stage, "head-motion") == 1.0 and value_of(stage, "neutral") == 0.0
        assert ("PATCH" in asked) is not over_channel


async def test_a_change_by_somebody_else_moves_the_slider(
    browser: Browser, stage: EchoStage
) -> None:
    async with tab(browser, stage.url) as page:
        await live(page)
        await expect(page.locator("#sliders output").nth(0)).to_have_text("1.00")
        (performer,) = stage.performers.values()
        performer.controls.change({"expression": 0.25})
        await expect(page.locator("#sliders output").nth(0)).to_have_text("0.25")
        assert await page.locator("#sliders input").nth(0).input_value() == "0.25"


async def shows(page: Page, *colour: int) -> None:
    """The avatar is of this colour, at its middle."""
    async with asyncio.timeout(8):
        while True:
            seen = (await picture(page, "#avatar"))[24:40, 24:40].mean((0, 1))
            if abs(seen - colour).max() < 14:
                return
            await asyncio.sleep(0.05)


async def test_the_real_server_s_avatar_wears_what_is_chosen_and_moves_with_the_sliders(
    browser: Browser,
) -> None:
    flags = ("--model", "avatars:Dyed", "--geometry", "128x128", "--max-sessions", "2")
    async with serve(*flags) as server, tab(browser, f"{server.base}/") as page:
        await live(page)
        await shows(page, 220, 60, 90)
        await page.locator("#portraits label[title=Sky]").click()
        await shows(page, 60, 120, 230)
        await page.locator("#upload").set_input_files(photo())
        await shows(page, 40, 200, 60)
        await page.locator("#upload").set_input_files(photo(colour=(0, 0, 0)))
        await expect(page.locator("#dress-said")).to_contain_text("no face was found")
        await shows(page, 40, 200, 60)
        await page.locator("#sliders input[name=strength]").fill("0")
        own = (await picture(page, "#camera"))[24:40, 24:40].mean((0, 1))
        await shows(page, *own)
        await expect(page.locator("body")).to_have_attribute("data-state", "live")


async def test_behind_a_token_the_pictures_show_too(browser: Browser) -> None:
    async with page_server(token="open-sesame") as stage:
        stage.pictures, stage.takes_portraits = PICTURES, True
        async with tab(browser, f"{stage.url}#token=open-sesame") as page:
            await expect(page.locator("#portraits img:visible")).to_have_count(2)
            picture = page.locator("#portraits img").first
            await expect(picture).to_have_js_property("naturalWidth", 64)


async def test_it_fits_a_phone_and_stays_dark(browser: Browser, stage: EchoStage) -> None:
    many = {f"portrait-{at}": PICTURES["rose"] for at in range(7)}
    stage.pictures = many
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    async with tab(browser, stage.url, **phone) as page:
        overhang = "document.documentElement.scrollWidth - innerWidth"
        assert await page.evaluate(overhang) <= 0
        await live(page)
        await expect(page.locator("#sliders input")).to_have_count(2)
        assert await page.evaluate(overhang) <= 0
        colour = "getComputedStyle(document.querySelector('.tile.own')).backgroundColor"
        shades = (await page.evaluate(colour)).strip("rgb()").split(",")
        assert max(map(int, shades)) < 64
