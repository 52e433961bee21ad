"""The gate: TLS goes in, plain HTTP is shown the way, what is neither leaves no trace."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import ClientConnectorError
from offers import PUBLISHER
from stages import MemoryStage, raw

from stream import gate
from stream.api import build_web_app, listen
from stream.certificate import kept_certificate
from stream.settings import Settings

SDP = {"Content-Type": "application/sdp"}


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[int, aiohttp.ClientSession]]:
    """The web app behind the gate, and a client that trusts its certificate."""
    path, _ = kept_certificate(folder, ("localhost", "127.0.0.1"), datetime.now(UTC))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    trust = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=path))
    app = build_web_app(Settings(), MemoryStage())
    async with (
        listen(app, "127.0.0.1", 0, context) as port,
        aiohttp.ClientSession(f"https://127.0.0.1:{port}", connector=trust) as client,
    ):
        yield port, client


async def until_closed(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(3):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_the_doors_answer_over_tls_and_their_links_say_so(tmp_path: Path) -> None:
    async with house(tmp_path) as (port, client):
        async with client.get("/readyz") as answer:
            assert answer.status == 200
        async with client.post("/whip", data=PUBLISHER, headers=SDP) as answer:
            assert answer.status == 201
            assert answer.headers["Location"].startswith(f"https://127.0.0.1:{port}/whip/sessions/")


async def test_a_browser_that_comes_in_plain_http_is_led_to_https(tmp_path: Path) -> None:
    async with house(tmp_path) as (port, client):
        plain = f"http://127.0.0.1:{port}/watch/aya?a=1"
        async with client.get(plain, allow_redirects=False) as answer:
            assert answer.status == 307  # not for ever
            assert answer.headers["Location"] == f"https://127.0.0.1:{port}/watch/aya?a=1"
            assert answer.headers["Cache-Control"] == "no-store"
        async with client.get(plain) as answer:
            assert answer.status == 200 and answer.url.scheme == "https"


async def test_a_client_that_sends_in_plain_http_is_told_so(tmp_path: Path) -> None:
    async with house(tmp_path) as (port, client):
        plain = f"http://127.0.0.1:{port}/whip"
        async with client.post(plain, data=PUBLISHER, headers=SDP) as answer:
            assert answer.status == 400 and "https://" in await answer.text()
        odd = await raw(port, "GET / HTTP/1.1\nHost: a b\n\n")
        assert " 400 " in odd.split("\r\n")[0] and "Location" not in odd


async def test_what_makes_no_handshake_is_closed_without_a_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "HANDSHAKE_S", 0.2)
    caplog.set_level(logging.INFO)
    async with house(tmp_path) as (port, client):
        for sent in (b"", b"\x16", b"\x16\x03\x01\x00\x05hello" + b"x" * 99):
            assert b"HTTP" not in await until_closed(port, sent)
        for sent in (b"\x80\x2e\x01\x00\x02\r\n\r\n", b"GET / HTTP/1.1\r\nHost: \x01\r\n\r\n"):
            assert b" 400 " in (await until_closed(port, sent))[:20]
        async with aiohttp.ClientSession() as stranger:  # who does not trust the certificate
            with pytest.raises(ClientConnectorError):
                await stranger.get(f"https://127.0.0.1:{port}/")
        async with client.get("/readyz") as answer:
            assert answer.status == 200
    assert [it for it in caplog.records if not it.name.startswith("asyncio")] == []
    assert "Traceback" not in caplog.text


async def test_the_undecided_are_few_and_do_not_keep_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "HANDSHAKE_S", 0.4)
    monkeypatch.setattr(gate, "UNDECIDED", 3)
    async with house(tmp_path) as (port, client):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
        await asyncio.sleep(0.1)
        undecided = [it for it in asyncio.all_tasks() if "_welcome" in repr(it.get_coro())]
        assert len(undecided) == 3
        async with asyncio.timeout(5), client.get("/readyz") as answer:
            assert answer.status == 200
        for _, writer in silent:
            writer.close()


async def test_the_end_waits_for_nobody_who_is_silent(tmp_path: Path) -> None:
    async with asyncio.timeout(4):
        async with house(tmp_path) as (port, client):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with client.get("/readyz"):
                pass
        assert await reader.read() == b""
        writer.close()
    assert not [it for it in asyncio.all_tasks() if "_Porter" in repr(it.get_coro())]
