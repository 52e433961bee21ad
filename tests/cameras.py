"""Cameras over RTSP, each a GStreamer server in a process of its own."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"
CAMERA = Path(__file__).with_name("rtsp_camera.py")

needs_gstreamer = pytest.mark.skipif(
    not os.environ.get("CI")
    and shutil.which("gst-inspect-1.0") is None
    and not Path("/usr/lib/girepository-1.0").is_dir(),
    reason="needs GStreamer's RTSP server",
)


@contextlib.asynccontextmanager
async def camera(
    port: int = 0, size: tuple[int, int] = (160, 120), fps: int = 25, frames: int = -1
) -> AsyncIterator[str]:
    """A camera process; gives its URL."""
    words = map(str, (port, *size, fps, frames))
    process = await asyncio.create_subprocess_exec(
        PYTHON, str(CAMERA), *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(10):
            url = (await process.stdout.readline()).decode().strip()
        assert url.startswith("rtsp://"), "the camera did not start"
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
