"""stream/identities.py with the real preparer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream.identities import Identities
from tests.processes import descriptors, is_gone, until_gone
from workers.errors import ModelError
from workers.geometry import Geometry
from workers.picture import Picture

GEOMETRY = Geometry(32, 32)
BLUE = Picture(16, 16, bytes([0, 0, 255]) * 256)


@pytest.fixture(autouse=True)
def _models_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@contextlib.asynccontextmanager
async def asking(model: str, idle_s: float = 60.0) -> AsyncIterator[Identities]:
    identities = Identities(model, idle_s=idle_s)
    task = asyncio.create_task(identities.run())
    try:
        yield identities
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_portraits_become_identities_and_nothing_runs_before_or_long_after() -> None:
    async with asking("avatars:Tinted", idle_s=0.2) as identities:
        await asyncio.sleep(0.05)
        assert identities.pid is None
        before = descriptors()
        own, blue = await asyncio.gather(
            identities.prepare(GEOMETRY), identities.prepare(GEOMETRY, BLUE)
        )
        pid = identities.pid
        assert pid is not None
        assert os.pread(own, 4096, 0) != os.pread(blue, 4096, 0)
        assert b"colour" in os.pread(blue, 4096, 0)
        os.close(own)
        os.close(blue)
        await until_gone(pid)
        while identities.pid is not None:  # noqa: ASYNC110  # it is being fetched
            await asyncio.sleep(0.01)
        assert descriptors() == before


async def test_a_preparer_that_dies_fails_its_request_and_the_next_one_is_served() -> None:
    async with asking("avatars:Tinted") as identities:
        asked = asyncio.create_task(identities.prepare(GEOMETRY))
        while identities.pid is None:  # noqa: ASYNC110  # it is being started
            await asyncio.sleep(0.01)
        pid = identities.pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ModelError, match="killed by SIGKILL: try again"):
            await asked
        os.close(await identities.prepare(GEOMETRY))
        last = identities.pid
        assert last is not None and last != pid
    assert is_gone(last)


async def test_a_portrait_that_is_none_is_refused_in_words() -> None:
    async with asking("avatars:Tinted") as identities:
        with pytest.raises(ModelError, match="without padding"):
            await identities.prepare(GEOMETRY, Picture(16, 16, b"short"))


async def test_the_end_of_the_server_fails_who_still_waits() -> None:
    async with asking("avatars:Tinted") as identities:
        asked = asyncio.create_task(identities.prepare(GEOMETRY))
        await asyncio.sleep(0)
    with pytest.raises(ModelError, match="the server stops"):
        await asked
