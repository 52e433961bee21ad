"""What a newcomer does: starts, and a portrait follows the face before Chromium's camera."""

from __future__ import annotations

import asyncio
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from browser import chromium
from judging import clip, correlation, is_fetched, our_net, seen
from page import Picture, advances, goes_live, picture, press, tab
from playwright.async_api import expect
from server import serve
from torch import Tensor

CI = os.environ.get("CI") == "true"  # there, what is missing fails
SIDE, FPS = 160, 25
TURN = (492, 64)  # frames of a clip: a head that turns and tilts
LOOKS, EVERY_S = 30, 0.1
LEAST_ROLL = 2.0  # degrees: the performer's is 5
FOLLOWS, LATE = 0.7, 4


def film(path: Path, frames: Tensor) -> None:
    """frames (N, 3, H, W) uint8: as Chromium's fake camera reads it, again and again."""
    coder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(coder, av.VideoCodecContext)
    coder.height, coder.width = frames.shape[-2:]
    coder.pix_fmt, coder.time_base = "yuvj420p", Fraction(1, FPS)
    with path.open("wb") as file:
        for frame in frames.permute(0, 2, 3, 1).contiguous():
            for packet in coder.encode(av.VideoFrame.from_ndarray(frame.numpy(), "rgb24")):
                file.write(bytes(packet))


def there_and_back(frames: Tensor) -> Tensor:
    """Without a cut where the camera begins again."""
    return torch.cat([frames, frames.flip(0)])


def heads(pictures: list[Picture]) -> Tensor:
    """(N,) the roll of each, in degrees; nan: no face."""
    frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).round().byte()
    return seen(our_net(frames)).roll


@pytest.mark.skipif(not CI and not is_fetched(), reason="needs scripts/face_judge")
async def test_a_newcomer_presses_start_and_a_portrait_follows_their_head(tmp_path: Path) -> None:
    camera = tmp_path / "performer.mjpeg"
    film(camera, there_and_back(clip("cap12_edit", SIDE, *TURN)))
    async with (
        serve() as server,
        chromium([f"--use-file-for-fake-video-capture={camera}"]) as browser,
        tab(browser, f"{server.base}/") as page,
    ):
        await press(page)
        await goes_live(page)
        await advances(page, "#avatar", frames=3)
        performer: list[Picture] = []
        avatar: list[Picture] = []
        for _ in range(LOOKS):
            for shown, video in ((performer, "#camera"), (avatar, "#avatar")):
                shown.append(await picture(page, video, side=SIDE))
            await asyncio.sleep(EVERY_S)
        await expect(page.locator("#portraits img:visible")).to_have_count(4, timeout=40_000)

    drives, follows = heads(performer), heads(avatar)
    assert not (drives.isnan().any() or follows.isnan().any())
    assert follows.max() - follows.min() > LEAST_ROLL
    # What is drawn now was filmed a moment ago: some looks, on a busy machine.
    late = [correlation(drives[: len(drives) - n], follows[n:]) for n in range(LATE)]
    assert max(late) > FOLLOWS, late
