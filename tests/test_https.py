"""`--https`, the way a phone takes: this machine's own address, the warning, the camera."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from browser import chromium
from page import advances, goes_live, tab
from playwright.async_api import Error as PageError
from playwright.async_api import Page, expect
from server import TESTS, Server, serve
from test_tls import pair
from yarl import URL

from stream.certificate import kept_certificate
from stream.lan import names_of, own_addresses
from stream.qr import qr_lines
from stream.settings import Settings

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
MIRROR = ("--https", "--model", "mirror", "--geometry", "64x64", "--threads", "1")
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"

needs_network = pytest.mark.skipif(not own_addresses(4), reason="this machine has no network")


@asynccontextmanager
async def serving(folder: Path, *flags: str) -> AsyncIterator[tuple[Server, str]]:
    """The server, and the link that it prints."""
    async with serve(*MIRROR, *flags, env={"XDG_STATE_HOME": str(folder)}) as server:
        yield server, (await server.until_line(r"^page ")).split()[1]


async def goes_past_the_warning(page: Page, link: str) -> None:
    with pytest.raises(PageError, match="ERR_CERT_AUTHORITY_INVALID"):
        await page.goto(link)
    await page.locator("#details-button").tap()
    await page.locator("#proceed-link").tap()


@needs_network
async def test_a_phone_goes_past_the_warning_and_is_live(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, link), chromium() as browser:
        address = own_addresses(4)[0]
        assert re.fullmatch(rf"https://{address}:{server.port}/#token=[\w-]{{22}}", link)
        async with tab(browser, "about:blank", **PHONE) as page:
            await goes_past_the_warning(page, link)
            await expect(page.locator("#act")).to_be_in_viewport(ratio=1)
            await expect(page).to_have_url(f"https://{address}:{server.port}/")  # without the token
            assert await page.evaluate("isSecureContext && !!navigator.mediaDevices")
            await page.locator("#act").tap()
            await goes_live(page)
            await advances(page, "#avatar")
            await expect(page.locator("#avatar")).to_be_in_viewport(ratio=1)
            await expect(page.locator("#act")).to_be_in_viewport(ratio=1)
            assert await page.evaluate(SIDEWAYS) == 0
            shown = await page.locator("#link").input_value()
            assert shown.startswith(f"https://{address}:{server.port}/watch/")
        # Whoever has the link alone is told what it lacks; in plain HTTP it leads to HTTPS.
        plain = f"http://{address}:{server.port}/"
        async with tab(browser, plain, ignore_https_errors=True, **PHONE) as page:
            assert page.url == f"https://{address}:{server.port}/"
            await page.locator("#act").tap()
            await expect(page.locator("#trouble-title")).to_have_text("The server wants a token")
        assert await server.stop() == 0
    assert not [line for line in server.lines if "Traceback" in line or " ERROR " in line]
    assert not [line for line in server.lines if "█" in line]  # a log is spared the code


async def test_it_answers_by_its_names_with_the_certificate_of_the_start_before(
    tmp_path: Path,
) -> None:
    kept, _ = kept_certificate(
        tmp_path / "omokage", names_of(Settings(host="0.0.0.0")), datetime.now(UTC)
    )
    trust = ssl.create_default_context(cafile=str(kept))
    async with serving(tmp_path, "--token", "0123456789") as (server, link):
        assert link.endswith("/#token=0123456789")
        url = f"https://localhost:{server.port}/readyz"
        for host, status in (("vm-of-a.stranger.example", 421), (socket.gethostname(), 200)):
            async with aiohttp.ClientSession(headers={"Host": host}) as client:
                async with client.get(url, ssl=trust) as answer:
                    assert answer.status == status
        server.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(server.process.wait(), 5) == 0


@needs_network
async def test_a_terminal_shows_the_link_as_a_code_and_clients_see_a_certificate_of_ones_own(
    tmp_path: Path,
) -> None:
    certificate, key = pair(tmp_path, "own")
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key))
    trust = ssl.create_default_context(cafile=str(certificate))
    async with on_a_terminal(*MIRROR, *flags, "--port", "0", "--broker-port", "0") as shown:
        link = shown[0].split()[1]
        assert "\n".join(qr_lines(link)) in "\n".join(shown)
        here = f"https://127.0.0.1:{URL(link).port}/"
        async with aiohttp.ClientSession() as client, client.get(here, ssl=trust) as answer:
            assert answer.status == 200


@asynccontextmanager
async def on_a_terminal(*flags: str) -> AsyncIterator[list[str]]:
    """The server with a terminal for its output: what it has shown there when it serves."""
    parent, child = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stream", "serve", *flags,
        stdout=child, stderr=asyncio.subprocess.DEVNULL, cwd=TESTS.parent,
    )  # fmt: skip
    os.close(child)
    said = ""
    try:
        async with asyncio.timeout(30):
            while "Scan it" not in said:
                said += (await asyncio.to_thread(os.read, parent, 65536)).decode()
        yield [line.rstrip("\r") for line in said.split("\n")]
    finally:
        process.terminate()
        await process.wait()
        os.close(parent)


def test_a_key_without_its_certificate_is_told_in_one_line(tmp_path: Path) -> None:
    _, key = pair(tmp_path, "own")
    done = subprocess.run(
        [sys.executable, "-m", "stream", "serve", "--port", "0", "--tls-key", str(key)],
        capture_output=True, text=True, cwd=TESTS.parent, timeout=20,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"omokage: --tls-key {key} comes without --tls-cert: pass both\n"
