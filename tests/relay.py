"""A real STUN and TURN server, coturn, as a child process."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aioice.ice import get_host_addresses

CI = os.environ.get("CI") == "true"  # there, what is missing fails
BINDING = bytes.fromhex("000100002112a442") + bytes(12)  # a request (RFC 8489, section 5)

needs_coturn = pytest.mark.skipif(
    not CI and not shutil.which("turnserver"), reason="needs coturn's turnserver"
)


@dataclass(frozen=True, slots=True)
class Relay:
    host: str  # this machine's own address: a relay to loopback is refused by all sides
    port: int

    @property
    def stun(self) -> str:
        return f"stun:{self.host}:{self.port}"

    @property
    def turn(self) -> str:
        """With its login, as `--ice-server` takes it."""
        return f"turn:{self.host}:{self.port},aya,umbrella"


@asynccontextmanager
async def relay(directory: Path) -> AsyncIterator[Relay]:
    """directory: for its database, of nothing."""
    host = get_host_addresses(use_ipv4=True, use_ipv6=False)[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((host, 0))
        it = Relay(host, free.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        "turnserver", "-n", "--listening-ip", host, "--listening-port", str(it.port),
        "--relay-ip", host, "--lt-cred-mech", "--user", "aya:umbrella", "--realm", "omokage",
        "--no-tcp", "--no-tls", "--no-dtls", "--no-cli", "--log-file", "stdout",
        "--pidfile", str(directory / "pid"), "--userdb", str(directory / "users"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _until_it_answers(it)
        yield it
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 3)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until_it_answers(it: Relay) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind((it.host, 0))
        for _ in range(50):
            await loop.sock_sendto(client, BINDING, (it.host, it.port))
            try:
                await asyncio.wait_for(loop.sock_recv(client, 1500), 0.2)
            except (TimeoutError, ConnectionError):
                continue
            return
    raise AssertionError("turnserver does not answer")
