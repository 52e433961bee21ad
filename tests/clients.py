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
LONGEST_S = 20.0  # that a client stays, whatever it waits for
LEAST = 20  # frames after which a viewer has seen enough
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
    first_s: float | None = None  # a viewer's: from its POST to its first decoded picture
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


async def gstreamer(
    url: str, codec: str, over: asyncio.Event | None = None, **options: object
) -> Told:
    """webrtcbin: publishes until it is over, or watches, where the URL is one of WHEP.

    options: trickle, audio, resize_s.
    """
    publish = "/whip/" in url
    asked = {"url": url, "codec": codec, "publish": publish, "trickle": False, "audio": True}
    asked |= {"resize_s": 0, "seconds": LONGEST_S, "enough": LEAST} | options
    script = str(TESTS / "gst_client.py")
    said = json.loads(await _run(PYTHON, script, json.dumps(asked), over=over))
    assert "refused" not in said, said
    frames = None if publish else said["frames"]
    return Told(frames, said["first_s"], said["states"], said["patches"])


async def ffmpeg(url: str, directory: Path, over: asyncio.Event) -> Told:
    """FFmpeg's WHIP muxer: publishes until it is over."""
    script = str(TESTS / "ffmpeg_whip.py")
    await _run(sys.executable, script, url, str(directory), str(LONGEST_S), over=over)
    return Told(None)


async def _run(*command: str, over: asyncio.Event | None) -> str:
    """What it prints; its input ends when it is over."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None

    async def end() -> None:
        await (over or asyncio.Event()).wait()
        process.stdin.close()

    ending = asyncio.create_task(end())
    try:
        async with asyncio.timeout(LONGEST_S + 10):
            output = await process.stdout.read()
            await process.wait()
    finally:
        ending.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command[1]} ended with {process.returncode}"
    return output.decode()


class Pages:
    """The site of the strangers' page, of another origin than the server's."""

    def __init__(self) -> None:
        self._reports: dict[str, asyncio.Future[Told]] = {}
        self._over: dict[str, asyncio.Event] = {}
        self.base = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Pages]:
        app = web.Application()
        app.router.add_post("/report", self._hear)
        app.router.add_get("/over", self._tell_when_over)
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
        self, client: str, url: str, codec: str, over: asyncio.Event | None
    ) -> tuple[str, asyncio.Future[Told]]:
        """Where a page does it by itself, and what it will report."""
        publish = "/whip/" in url
        name = str(len(self._reports))
        asked = {"client": client, "codec": codec, "id": name}
        asked["publish" if publish else "watch"] = url
        asked |= {"seconds": str(LONGEST_S), "enough": str(LEAST)}
        self._over[name] = over or asyncio.Event()
        self._reports[name] = asyncio.get_running_loop().create_future()
        return f"{self.base}/client_page.html?{urlencode(asked)}", self._reports[name]

    async def _hear(self, request: web.Request) -> web.Response:
        said: dict[str, Any] = json.loads(await request.text())
        told = Told(said["frames"], said["firstS"], said["states"], (), said["errors"])
        self._reports[said["id"]].set_result(told)
        return web.Response()

    async def _tell_when_over(self, request: web.Request) -> web.Response:
        """To a publisher."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over[request.query["id"]].wait(), LONGEST_S)
        return web.Response()


def _file(path: Path) -> Any:  # Any: aiohttp's handler
    async def give(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return give


async def in_chromium(
    context: BrowserContext,
    pages: Pages,
    client: str,
    url: str,
    codec: str = "VP8",
    over: asyncio.Event | None = None,
) -> Told:
    """A page of it: publishes until it is over, or watches."""
    address, report = pages.address(client, url, codec, over)
    page = await context.new_page()
    try:
        await page.goto(address)
        async with asyncio.timeout(LONGEST_S + 10):
            return await report
    finally:
        await page.close()


async def in_firefox(
    profile: Path, pages: Pages, url: str, codec: str = "VP8", over: asyncio.Event | None = None
) -> Told:
    """A Firefox of its own, headless, with its fake camera; `profile`: an empty directory."""
    binary = shutil.which("firefox-esr") or shutil.which("firefox")
    assert binary, "Firefox is not on PATH"
    lines = [f'user_pref("{name}", {json.dumps(it)});' for name, it in FIREFOX_PREFERENCES.items()]
    profile.mkdir()  # noqa: ASYNC240 - a moment
    (profile / "user.js").write_text("\n".join(lines))
    address, report = pages.address("plain", url, codec, over)
    process = await asyncio.create_subprocess_exec(
        binary, "--headless", "--no-remote", "--profile", str(profile), address,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"HOME": str(profile)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST_S + 20):
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
