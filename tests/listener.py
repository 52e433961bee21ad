"""A `mosquitto_sub` that listens, and everything it heard."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from stream.mqtt import Address


@dataclass(frozen=True, slots=True)
class Heard:
    """`expiry_s` is what is left of MQTT 5's expiry; `is_kept`: it lay there before we came."""

    topic: str
    payload: bytes
    qos: int
    is_kept: bool
    expiry_s: int | None

    @property
    def said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.payload)
        return said


@dataclass
class Listener:
    heard: list[Heard] = field(default_factory=list)

    def of(self, ending: str) -> list[Heard]:
        """Those of a topic, by its last levels, that are not empty."""
        return [it for it in self.heard if it.topic.endswith(f"/{ending}") and it.payload]

    async def until(self, holds: Callable[[Listener], object], within_s: float = 10.0) -> Listener:
        try:
            async with asyncio.timeout(within_s):
                while not holds(self):  # noqa: ASYNC110  # it listens in a task of its own
                    await asyncio.sleep(0.01)
        except TimeoutError:
            lines = "\n".join(f"{it.topic} {it.payload!r}" for it in self.heard[-30:])
            raise AssertionError(f"not heard; the last that was:\n{lines}") from None
        return self


@contextlib.asynccontextmanager
async def listening(
    address: Address, topics: str = "#", protocol: str = "mqttv5"
) -> AsyncIterator[Listener]:
    """Listens from before it yields."""
    process = await asyncio.create_subprocess_exec(
        "stdbuf", "-oL", "mosquitto_sub", "-h", address.host, "-p", str(address.port),
        "-V", protocol, "-q", "1", "-t", topics, "-d", "-F", "!%t\t%q\t%r\t%E\t%p",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/usr/local/bin"},
    )  # fmt: skip
    listener, subscribed = Listener(), asyncio.Event()

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"Subscribed"):
                subscribed.set()
            if not line.startswith(b"!"):
                continue
            topic, qos, kept, expiry, payload = line[1:].rstrip(b"\n").split(b"\t", 4)
            listener.heard.append(
                Heard(
                    topic.decode(), payload, int(qos), kept == b"1",
                    int(expiry) if expiry.isdigit() else None,
                )
            )  # fmt: skip

    task = asyncio.create_task(listen())
    try:
        await asyncio.wait_for(subscribed.wait(), 10)
        yield listener
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await task


async def tell(address: Address, topic: str, payload: str, *, kept: bool) -> None:
    """A message of somebody else's."""
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", address.host, "-p", str(address.port), "-q", "1",
        "-t", topic, "-m", payload, *(["-r"] if kept else []),
    )  # fmt: skip
    assert await process.wait() == 0
