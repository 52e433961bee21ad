"""Many sessions at once, as `scripts/show_sessions` has them, for a few seconds: counts alone."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import aiohttp
from light import SESSION_SHIFT, Clip, LightClient, crowd, encode, numbered, pictures_of
from server import serve

# Half the show's rate: a busy machine may be late by 0.2 s before a newer frame overtakes.
SESSIONS, FPS, SIDE, CLIP_FRAMES = 24, 5, 64, 60
SECONDS = 5.0


def clips(codec: str) -> list[Clip]:
    return [
        encode(codec, FPS, 100_000, list(numbered(n, SIDE, SIDE, CLIP_FRAMES)))
        for n in range(SESSIONS)
    ]


async def test_no_frame_of_24_sessions_is_dropped_and_each_gets_its_own() -> None:
    flags = (
        "--model", "mirror", "--geometry", f"{SIDE}x{SIDE}", "--max-sessions", str(SESSIONS),
    )  # fmt: skip
    async with serve(*flags) as server, aiohttp.ClientSession() as http:
        async with crowd(http, server.base, clips("H264"), keeps_data=True) as clients:
            since_s = time.monotonic() + 0.5
            await asyncio.sleep(SECONDS)
            for client in clients:
                client.fall_silent()
            await asyncio.sleep(1.0)
            for n, client in enumerate(clients):
                assert client.track.sent >= FPS * (SECONDS - 1)
                assert client.lost(since_s) == 0, f"session {n}"
                check_pictures(client, n, since_s)


def check_pictures(client: LightClient, session: int, since_s: float) -> None:
    """All of its own session; of what was sent since then, in the clip's order, round and round."""
    pictures = [(at, it.number) for at, it in pictures_of(client) if it.colour == "cyan"]
    assert {number >> SESSION_SHIFT for _, number in pictures} == {session}
    since = client.avatars(since_s)
    first = next(index for index, (at, _) in enumerate(pictures) if at in since)
    positions = [number & ((1 << SESSION_SHIFT) - 1) for _, number in pictures[first:]]
    assert len(positions) >= FPS * (SECONDS - 1.5), f"session {session} saw {len(positions)}"
    for before, after in pairwise(positions):
        assert after in (before, (before + 1) % CLIP_FRAMES), f"session {session}: {positions}"
