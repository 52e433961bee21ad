"""Strangers' clients, each as it comes, against a real server: who publishes and who watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from browser import chromium
from cameras import PYTHON
from playwright.async_api import BrowserContext
from server import Server, serve

TESTS = Path(__file__).parent
NPM = TESTS.parent / "build" / "clients" / "clients.js"  # scripts/npm_clients makes it
PUBLISH_S, WATCH_S = 3.0, 2.0
FIREFOX_PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.obfuscate_host_addresses": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
    "browser.shell.checkDefaultBrowser": False,
    "app.update.enabled": False,
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a client says of itself at its end."""

    frames: int | None  # encoded, or decoded; None: it does not count them
    first_s: float | None = None  # a viewer's: from its start to its first picture
    states: Sequence[str] = ()
    patches: Sequence[int] = ()
    errors: Sequence[str] = ()


@dataclass
class Watched:
    """What the server saw of a session that a client publishes."""

    arrived: int = 0
    emitted: int = 0
    first_s: float | None = None  # from its admission to its first frame
    states: list[str] = field(default_factory=list)
    viewers: int = 0


@asynccontextmanager
async def looking(server: Server, name: str) -> AsyncIterator[Watched]:
    """Looks at a session 50 times a second."""
    watched = Watched()

    async def look() -> None:
        admitted_s = None
        async with aiohttp.ClientSession(server.base) as http:
            while True:
                async with http.get(f"/sessions/{name}") as answer:
                    said = await answer.json()
                now_s = time.monotonic()
                if answer.status == 200:
                    admitted_s = admitted_s or now_s
                    watched.arrived = said["frames"]["arrived"]
                    watched.emitted = said["frames"]["emitted"]
                    watched.viewers = max(watched.viewers, said["viewers"])
                    if watched.arrived and watched.first_s is None:
                        watched.first_s = now_s - admitted_s
                    if watched.states[-1:] != [said["state"]]:
                        watched.states.append(said["state"])
                await asyncio.sleep(0.02)

    task = asyncio.create_task(look())
    try:
        yield watched
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def gstreamer(url: str, codec: str, **options: object) -> Told:
    """webrtcbin; watches where the URL is one of WHEP. options: trickle, audio, resize_s."""
    publish = "/whip/" in url
    asked = {"url": url, "codec": codec, "publish": publish, "trickle": False, "audio": True}
    asked |= {"enough": 0}  # frames after which it leaves, before its seconds are over; 0: never
    asked |= {"resize_s": 0, "seconds": PUBLISH_S if publish else WATCH_S} | options
    said = json.loads(await _run(PYTHON, str(TESTS / "gst_client.py"), json.dumps(asked)))
    assert "refused" not in said, said
    frames = None if publish else said["frames"]
    return Told(frames, said["first_s"], said["states"], said["patches"])


async def ffmpeg(url: str, directory: Path) -> Told:
    """FFmpeg's WHIP muxer."""
    script = str(TESTS / "ffmpeg_whip.py")
    await _run(sys.executable, script, url, str(directory), str(PUBLISH_S))
    return Told(None)


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(PUBLISH_S + 15):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command[1]} ended with {process.returncode}"
    return output.decode()


class Pages:
    """The site of the strangers' page, of another origin than the server's."""

    def __init__(self) -> None:
        self._reports: dict[str, asyncio.Future[Told]] = {}
        self.base = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Pages]:
        app = web.Application()
        app.router.add_post("/report", self._hear)
        for path in (TESTS / "client_page.html", TESTS / "client_page.js", NPM):
            app.router.add_get(f"/{path.name}", _file(path))
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def address(
        self, client: str, url: str, codec: str, seconds: float | None = None
    ) -> tuple[str, asyncio.Future[Told]]:
        """Where a page does it by itself, and what it will report."""
        publish = "/whip/" in url
        name = str(len(self._reports))
        asked = {"client": client, "codec": codec, "id": name}
        asked["publish" if publish else "watch"] = url
        asked["seconds"] = str(seconds or (PUBLISH_S if publish else WATCH_S))
        self._reports[name] = asyncio.get_running_loop().create_future()
        return f"{self.base}/client_page.html?{urlencode(asked)}", self._reports[name]

    async def _hear(self, request: web.Request) -> web.Response:
        said: dict[str, Any] = json.loads(await request.text())
        told = Told(said["frames"], said["firstS"], said["states"], (), said["errors"])
        self._reports[said["id"]].set_result(told)
        return web.Response()


def _file(path: Path) -> Any:  # Any: aiohttp's handler
    async def give(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return give


async def in_chromium(
    context: BrowserContext, pages: Pages, client: str, url: str, codec: str = "VP8"
) -> Told:
    address, report = pages.address(client, url, codec)
    page = await context.new_page()
    try:
        await page.goto(address)
        async with asyncio.timeout(PUBLISH_S + 12):
            return await report
    finally:
        await page.close()


async def in_firefox(
    profile: Path, pages: Pages, url: str, codec: str = "VP8", seconds: float | None = None
) -> Told:
    """A Firefox of its own, headless, with its fake camera; `profile`: an empty directory."""
    binary = shutil.which("firefox-esr") or shutil.which("firefox")
    assert binary, "Firefox is not on PATH"
    lines = [f'user_pref("{name}", {json.dumps(it)});' for name, it in FIREFOX_PREFERENCES.items()]
    profile.mkdir()  # noqa: ASYNC240 - a moment
    (profile / "user.js").write_text("\n".join(lines))
    address, report = pages.address("plain", url, codec, seconds)
    process = await asyncio.create_subprocess_exec(
        binary, "--headless", "--no-remote", "--profile", str(profile), address,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"HOME": str(profile)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(PUBLISH_S + 25):
            return await report
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def stand() -> AsyncIterator[tuple[Server, Pages, BrowserContext]]:
    """A server that lets strangers' pages in, their site, and a Chromium with its fake camera."""
    flags = ("--model", "mirror", "--geometry", "128x128", "--cors-origin", "*")
    fake = ("--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required")
    async with serve(*flags) as server, Pages().open() as pages, chromium(fake) as browser:
        context = await browser.new_context(permissions=["camera", "microphone"])
        yield server, pages, context
