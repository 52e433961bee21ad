"""A viewer behind a narrow line takes nothing from the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from media import Stage, stage, until
from narrow import narrow
from watchers import Watcher, common_window

from stream.codecs import Codec, bit_rate_for
from stream.feed import MAX_CLAIMED
from stream.sinks.viewer import Viewer
from stream.timestamps import WIRE_TIME_BASE
from workers.frame import FrameRef
from workers.geometry import Geometry

GEOMETRY = Geometry(512, 512)
FULL = bit_rate_for(GEOMETRY, 30)


@contextlib.asynccontextmanager
async def playing(it: Stage) -> AsyncIterator[None]:
    """A hard picture that moves, 30 times a second, as a worker would emit it."""
    dice = np.random.default_rng(1)
    noise = np.random.default_rng(0).integers(30, 200, (64, 64), dtype=np.uint8)
    picture = np.full((768, 512), 128, np.uint8)
    picture[:512] = noise.repeat(8, 0).repeat(8, 1)

    async def run() -> None:
        ring = it.arena.outbox(0)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number in range(1, 10_000):
            claim = ring.claim()
            if claim is not None:
                ring.view(claim.slot)[:512] = np.roll(picture[:512], 7 * number, 1)
                ring.view(claim.slot)[512:] = 128
                ring.view(claim.slot)[:512] += dice.integers(0, 24, (512, 512), dtype=np.uint8)
                ring.publish(
                    FrameRef(0, 1, number, claim.slot, number * 3000, WIRE_TIME_BASE, loop.time())
                )
            await asyncio.sleep(max(began_s + number / 30 - loop.time(), 0))

    task = asyncio.ensure_future(run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def watch(it: Stage, watcher: Watcher, codec: Codec) -> Viewer:
    async def post(offer: str) -> str:
        nonlocal viewer
        viewer = await Viewer.open(offer, it.renditions, lambda state: None)
        return viewer.answer

    viewer: Viewer | None = None
    await watcher.watch(post, codec.value)
    assert viewer is not None
    return viewer


@pytest.mark.parametrize("codec", list(Codec))
async def test_one_behind_200_kbit_gets_a_lower_rendition_and_the_others_lose_nothing(
    codec: Codec,
) -> None:
    async with stage(GEOMETRY) as it, narrow(200_000) as line, playing(it):
        fast, slow = [Watcher() for _ in range(4)], Watcher(line)
        viewers = [await watch(it, watcher, codec) for watcher in fast]
        await until(lambda: all(watcher.frames.got for watcher in fast))
        main, shares = it.renditions.get(codec), set[float]()
        allowed = it.renditions.audience(codec)._members
        began_s = fast[0].frames.got[-1].at_s
        viewers.append(await watch(it, slow, codec))

        def is_split() -> bool:
            # Of what the fastest can take, as far as a busy machine lets it say so.
            shares.add(main.bit_rate / max(one.bit_rate for one in allowed.values()))
            return (main.sinks, it.renditions.lower_count) == (4, 1)

        await until(is_split, 15.0)
        lower = it.renditions.lower(codec, 0)
        keyframes, settled = main.keyframes, len(slow.frames.got)
        assert lower.sinks == 1
        await until(lambda: len(slow.frames.got) >= settled + 10, 10.0)
        assert min(shares) > 0.499
        assert main.keyframes == keyframes  # what the slow one asks for is not for all
        assert lower.bit_rate < FULL // 2
        windows = common_window(fast, began_s)
        assert all(window == windows[0] for window in windows) and len(windows[0]) > 30
        assert [watcher.frames.missing for watcher in fast] == [0, 0, 0, 0]
        assert all(a.timestamp != b.timestamp for a, b in pairwise(slow.frames.got))
        assert it.feed.high_water_claimed <= MAX_CLAIMED
        await viewers[-1].close()
        assert it.renditions.lower_count == 0  # nobody uses it
        for one in (*viewers, *fast, slow):
            await one.close()
