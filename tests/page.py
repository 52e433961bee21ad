"""Omokage's page in a tab: what a person does there, and what shows."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.async_api import Browser, Page, expect

PLAYED = "video => video.getVideoPlaybackQuality().totalVideoFrames"
PAINTED = """(video, { side, cover }) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const { videoWidth: width, videoHeight: height } = video;
  const [w, h] = cover ? Array(2).fill(Math.min(width, height)) : [width, height];
  brush.drawImage(video, (width - w) / 2, (height - h) / 2, w, h, 0, 0, side, side);
  return btoa(String.fromCharCode(...brush.getImageData(0, 0, side, side).data));
}"""

Picture = NDArray[np.float64]


@asynccontextmanager
async def tab(
    browser: Browser, url: str, *, script: str = "", clock: bool = False, **context: Any
) -> AsyncIterator[Page]:
    """A page in a context of its own, that must meet no fault of its own and break no policy.

    `context`: any options of `Browser.new_context`.
    """
    faults: list[str] = []
    opened = await browser.new_context(**{"permissions": ["camera"], **context})
    try:
        page = await opened.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda said: faults.append(said.text) if "Content Security" in said.text else None,
        )
        if script:
            await page.add_init_script(script)
        if clock:
            await page.clock.install()
        await page.goto(url)
        yield page
    finally:
        await opened.close()
    assert not faults


async def press(page: Page) -> None:
    await page.locator("#act").click()


async def reaches(page: Page, state: str, timeout_ms: float = 8000) -> None:
    await expect(page.locator("body")).to_have_attribute("data-state", state, timeout=timeout_ms)


async def goes_live(page: Page) -> None:
    await reaches(page, "live")
    await expect(page.locator("body")).to_have_attribute("data-avatar", "on", timeout=8000)


async def played(page: Page, video: str) -> int:
    """How many frames the video has shown."""
    shown: int = await page.locator(video).evaluate(PLAYED)
    return shown


async def advances(page: Page, video: str, frames: int = 5, within_s: float = 5.0) -> None:
    """The video shows new frames."""
    before = await played(page, video)
    for _ in range(round(within_s / 0.1)):
        await asyncio.sleep(0.1)
        if await played(page, video) >= before + frames:
            return
    raise AssertionError(f"{video} stands still at frame {before}")


async def picture(page: Page, video: str, *, side: int = 64, cover: bool = True) -> Picture:
    """What the video shows, unmirrored, scaled to (side, side, 3), 0 to 255.

    Its centre square; without `cover` the whole, squeezed.
    """
    options = {"side": side, "cover": cover}
    rgba = b64decode(await page.locator(video).evaluate(PAINTED, options))
    return np.frombuffer(rgba, np.uint8).reshape(side, side, 4)[:, :, :3].astype(np.float64)
