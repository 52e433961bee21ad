"""stream.newest: of several, the last to come goes on."""

from __future__ import annotations

import asyncio

import pytest

from stream.newest import Newest
from workers.errors import ModelError, PortraitOvertaken


async def test_a_newer_one_ends_the_one_before_and_goes_on() -> None:
    newest, told = Newest(), list[str]()

    async def enter(name: str) -> None:
        async with newest.turn(5):
            await asyncio.sleep(0.05)
            told.append(name)

    async with asyncio.timeout(5):
        first = asyncio.create_task(enter("first"))
        await asyncio.sleep(0)
        second = asyncio.create_task(enter("second"))
        await asyncio.sleep(0)
        third = asyncio.create_task(enter("third"))
        for overtaken in (first, second):
            with pytest.raises(PortraitOvertaken, match="a newer portrait"):
                await overtaken
        await third
    assert told == ["third"]


async def test_one_after_another_is_no_overtaking() -> None:
    newest = Newest()
    for _ in range(2):
        async with newest.turn(5):
            await asyncio.sleep(0)


async def test_patience_has_an_end_and_errors_of_inside_pass() -> None:
    newest = Newest()
    with pytest.raises(ModelError, match="took more than 0 s"):
        async with newest.turn(0.01):
            await asyncio.sleep(5)
    with pytest.raises(TimeoutError):
        async with newest.turn(5):
            raise TimeoutError
    with pytest.raises(KeyError):
        async with newest.turn(5):
            raise KeyError
    async with newest.turn(5):
        pass
