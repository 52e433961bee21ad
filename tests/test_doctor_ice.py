"""stream/doctor/ice.py against a real STUN and TURN server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream.doctor import ice
from stream.doctor.finding import Finding, Level
from stream.network import Ports
from stream.settings import Settings
from stream.values import ice_server
from tests.processes import descriptors
from tests.server import free_port

HOST = "127.0.0.1"

needs_coturn = pytest.mark.skipif(
    not os.environ.get("CI") and shutil.which("turnserver") is None, reason="needs coturn"
)


@contextlib.asynccontextmanager
async def turnserver(folder: Path) -> AsyncIterator[int]:
    """coturn on loopback, with one user; its port."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech",
        "--listening-ip", HOST, "--listening-port", str(port), "--relay-ip", HOST,
        "--allow-loopback-peers", "--realm", "omokage", "--user", "aya:secret",
        "--userdb", str(folder / "db"), "--pidfile", str(folder / "pid"),
        "--log-file", "stdout", "--simple-log", "--verbose",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            async for line in process.stdout:
                if b"Total General servers" in line:
                    break
        yield port
    finally:
        process.kill()
        await process.communicate()


async def found(*servers: str) -> list[Finding]:
    return await ice.look(Settings(ice_servers=tuple(map(ice_server, servers))))


@needs_coturn
async def test_servers_are_asked_and_allocations_made_and_given_back(tmp_path: Path) -> None:
    async with turnserver(tmp_path) as port:
        await found(f"stun:{HOST}:{port}")  # what asyncio opens the first time
        before = descriptors()
        stun, over_udp, over_tcp, refused = await found(
            f"stun:{HOST}:{port}",
            f"turn:{HOST}:{port},aya,secret",
            f"turn:{HOST}:{port}?transport=tcp,aya,secret",
            f"turn:{HOST}:{port},aya,wrong",
        )
        await asyncio.sleep(0)
        assert descriptors() == before
    assert stun.level is Level.OK and stun.says == f"stun:{HOST}:{port} answers: it sees {HOST}"
    for it, transport in ((over_udp, "udp"), (over_tcp, "tcp")):
        assert it.level is Level.OK
        assert it.says.startswith(
            f"turn:{HOST}:{port} over {transport} answers and takes the login"
        )
    assert refused.level is Level.ERROR and "refuses the login" in refused.says
    assert refused.mend == "mend the user and credential in --ice-server"
    for it in (stun, over_udp, over_tcp, refused):
        assert "secret" not in it.says and "wrong" not in it.says and "aya" not in it.says


async def test_a_server_that_is_silent_absent_or_unknown_is_an_error_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ice, "ANSWER_S", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        port = silent.getsockname()[1]
        async with asyncio.timeout(5):
            told = await found(
                f"stun:{HOST}:{port}",
                f"turn:{HOST}:{port},aya,secret",
                f"stun:{HOST}:{free_port()}",
                f"turn:{HOST}:{free_port()}?transport=tcp,aya,secret",
            )
    says = [it.says.partition(": ")[2] for it in told]
    assert ["no answer" in it for it in says] == [True, True, False, False]
    assert says[2:] == ["nobody listens there"] * 2
    assert all(it.level is Level.ERROR and it.mend for it in told)


def levels(*announce: str, own: set[str], seen: set[str], ports: Ports | None) -> list[Level]:
    settings = Settings(announce=announce, udp_ports=ports)
    return [it.level for it in ice.judge_announced(settings, own, seen)]


def test_an_announced_address_is_own_or_seen_by_a_server_or_doubted() -> None:
    ports = Ports(50_000, 50_100)
    own, seen = {"10.0.0.5"}, {"198.51.100.7"}
    assert levels("10.0.0.5", own=own, seen=set(), ports=None) == [Level.OK]
    assert levels("198.51.100.7", own=own, seen=seen, ports=ports) == [Level.OK]
    assert levels("198.51.100.8", own=own, seen=seen, ports=ports) == [Level.WARNING]
    assert levels("198.51.100.7", own=own, seen=set(), ports=ports) == [Level.WARNING]
    assert levels("198.51.100.7", own=own, seen=seen, ports=None) == [Level.WARNING]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("stun:s.example", "stun:s.example:3478"),
        ("turn:t.example:99,a,b", "turn:t.example:99 over udp"),
        ("turn:t.example?transport=tcp,a,b", "turn:t.example:3478 over tcp"),
        ("turns:t.example,a,b", "turns:t.example:5349 over tcp"),
    ],
)
def test_a_place_is_told_without_its_login(url: str, place: str) -> None:
    assert str(ice.Place.of(ice_server(url))) == place
