"""The REST API, the page, and the server that both live in."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from offers import PUBLISHER, VIEWER
from stages import MemoryStage, house, raw

from stream.api import TYPES, build_web_app, listen, read_files
from stream.settings import Settings
from workers.errors import SettingsError

SDP = {"Content-Type": "application/sdp"}


async def test_sessions_are_listed_with_their_live_figures() -> None:
    async with house() as here:
        async with here.client.get("/sessions") as answer:
            assert await answer.json() == {"sessions": []}
        await here.client.post("/whip/aya", data=PUBLISHER, headers=SDP)
        await here.client.post("/whep/aya", data=VIEWER, headers=SDP)
        async with here.client.get("/sessions/aya") as answer:
            assert answer.content_type == "application/json"
            facts = await answer.json()
        frames = facts.pop("frames")
        assert frames["arrived"] == frames["emitted"] == 0
        assert facts == {
            "name": "aya",
            "state": "live",
            "reason": None,
            "since": "2026-11-24T12:00:00Z",
            "source": "webrtc",
            "avatar": "toon",
            "viewers": 1,
            "in_fps": 30.0,
            "out_fps": 29.5,
            "age_ms": 41.0,
            "fill_ratio": None,
            "memory_bytes": 10_000_000,
            "memory_kind": "process",
            "device": None,
            "batch_size": None,
            "frames_shown": 0,
        }
        async with here.client.get("/sessions") as answer:
            text = await answer.text()
            assert (await answer.json())["sessions"] == [{**facts, "frames": frames}]
            assert "secret" not in text
            assert answer.headers["Cache-Control"] == "no-store"


async def test_an_unknown_session_is_404_in_json() -> None:
    async with house() as here, here.client.get("/sessions/nobody") as answer:
        assert answer.status == 404
        assert "GET /sessions" in (await answer.json())["error"]


async def test_the_state_tells_capacity_and_load() -> None:
    async with house() as here:
        await here.client.post("/whip", data=PUBLISHER, headers=SDP)
        async with here.client.get("/state") as answer:
            state = await answer.json()
        assert (state["sessions"], state["sessions_limit"], state["viewers"]) == (1, 2, 0)
        assert (state["phase"], state["batch_sizes"], state["busy_ratio"]) == ("serving", [1], 0.5)


async def test_it_is_healthy_while_it_lives_and_ready_after_the_warm_up() -> None:
    async with house(stage=MemoryStage(ready=False, reason="the worker warms up")) as here:
        async with here.client.get("/healthz") as answer:
            assert answer.status == 200
        async with here.client.get("/readyz") as answer:
            assert answer.status == 503 and "Retry-After" in answer.headers
            assert (await answer.json())["error"] == "the worker warms up"
        here.stage.ready = True
        async with here.client.get("/readyz") as answer:
            assert answer.status == 200


async def test_head_is_answered_like_get_without_a_body() -> None:
    async with house() as here:
        for path in ("/", "/sessions", "/state", "/healthz", "/web/studio.js"):
            async with here.client.get(path) as whole, here.client.head(path) as head:
                assert head.status == 200 and await head.read() == b""
                assert head.headers["Content-Length"] == str(len(await whole.read()))


async def test_the_page_and_its_modules_have_the_right_types() -> None:
    async with house() as here:
        for path, kind in (
            ("/", "text/html; charset=utf-8"),
            ("/watch/aya", "text/html; charset=utf-8"),
            ("/web/studio.js", "text/javascript; charset=utf-8"),
            ("/web/favicon.svg", "image/svg+xml"),
        ):
            async with here.client.get(path) as answer:
                assert (answer.status, answer.headers["Content-Type"]) == (200, kind)


async def test_a_page_that_has_not_changed_is_not_sent_again() -> None:
    async with house() as here:
        async with here.client.get("/") as answer:
            tag = answer.headers["ETag"]
            assert answer.headers["Cache-Control"] == "no-cache"
        for known, status in ((tag, 304), (f'"other", W/{tag}', 304), ('"other"', 200)):
            async with here.client.get("/", headers={"If-None-Match": known}) as answer:
                assert (answer.status, answer.headers["ETag"]) == (status, tag)
                assert (len(await answer.read()) == 0) == (status == 304)


@pytest.mark.parametrize(
    "path",
    [
        "/web/../settings.py",
        "/web/..%2fsettings.py",
        "/web/%2e%2e/settings.py",
        "/web//etc/passwd",
        "/web/",
        "/web/absent.js",
        "/watch/Aya",
        "/watch/a/b",
        "/stream/settings.py",
    ],
)
async def test_nothing_but_the_page_is_served(path: str) -> None:
    async with house() as here:
        request = f"GET {path} HTTP/1.1\nHost: localhost\nConnection: close\n\n"
        assert " 404 " in (await raw(here.port, request)).split("\r\n")[0]


def test_only_files_of_a_known_type_are_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.js", "deep/b.css", "notes.txt~", "c.py", ".hidden"):
        (tmp_path / name).write_text(name)
    assert set(read_files(tmp_path)) == {"a.js", "deep/b.css"}


def test_all_that_the_page_is_made_of_can_be_served() -> None:
    web_folder = Path(__file__).parent.parent / "stream" / "web"
    assert {it.suffix for it in web_folder.rglob("*") if it.is_file()} <= set(TYPES)


async def test_a_taken_port_is_told_with_the_mend() -> None:
    app = build_web_app(Settings(), MemoryStage())
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        with pytest.raises(SettingsError) as refused:
            async with listen(app, "127.0.0.1", port):
                pass
    assert str(refused.value) == f"port {port} is taken: stop its owner or pass --port"


async def test_an_address_of_another_machine_is_told() -> None:
    app = build_web_app(Settings(), MemoryStage())
    for host in ("192.0.2.1", "nowhere.invalid"):
        with pytest.raises(SettingsError, match=f"--host {host} is "):
            async with listen(app, host, 0):
                pass


async def test_localhost_is_one_port_on_all_its_addresses() -> None:
    app = build_web_app(Settings(), MemoryStage())
    async with listen(app, "localhost", 0) as port:
        assert port > 0
        found = await asyncio.get_running_loop().getaddrinfo("localhost", port, type=1)
        reached = 0
        async with aiohttp.ClientSession() as client:
            for *_, name in found:
                host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
                try:
                    async with client.get(f"http://{host}:{port}/healthz") as answer:
                        reached += answer.status == 200
                except aiohttp.ClientConnectionError:
                    continue  # a machine without IPv6 may still name ::1
        assert reached >= 1


async def test_the_port_is_free_again_at_once() -> None:
    async with house() as here, here.client.get("/healthz") as answer:
        assert answer.status == 200
    app = build_web_app(Settings(), MemoryStage())
    async with listen(app, "127.0.0.1", here.port) as again:
        assert again == here.port


async def test_the_end_waits_for_no_idle_or_stuck_client() -> None:
    stage = MemoryStage(patience_s=30)
    app: web.Application = build_web_app(Settings(), stage)
    async with aiohttp.ClientSession() as client:
        async with listen(app, "127.0.0.1", 0) as port:
            base = f"http://127.0.0.1:{port}"
            async with client.get(f"{base}/healthz") as answer:  # stays open, idle
                assert answer.status == 200
            _, half = await asyncio.open_connection("127.0.0.1", port)
            half.write(b"POST /whip HTTP/1.1\r\nHost: loc")
            offer = client.post(f"{base}/whip", data=PUBLISHER, headers=SDP)
            stuck = asyncio.ensure_future(offer)
            await asyncio.sleep(0.2)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        with pytest.raises(aiohttp.ClientError):
            await stuck
        half.close()
