"""A camera over RTSP, a real one."""

import asyncio
import socket
import time

import pytest
from cameras import camera, needs_gstreamer
from media import nothing_left, stage, until

from stream.sources.rtsp import RtspSource, without_credentials
from workers.errors import SourceError


@needs_gstreamer
async def test_a_cameras_frames_come_at_its_own_rate() -> None:
    async with camera(fps=25) as url, stage() as it:
        told: list[str | None] = []
        source = RtspSource(url, it.inbox, told.append)
        source.start()
        await until(lambda: it.inbox.published > 5)
        before, began = it.inbox.published, time.monotonic()
        await asyncio.sleep(1.5)
        rate = (it.inbox.published - before) / (time.monotonic() - began)
        source.stop()
        assert 22 <= rate <= 28
        assert told == []
        await until(lambda: source.has_ended)


@needs_gstreamer
async def test_a_camera_that_was_restarted_comes_back() -> None:
    async with stage() as it:
        told: list[str | None] = []
        async with camera() as url:
            source = RtspSource(url, it.inbox, told.append)
            source.start()
            await until(lambda: it.inbox.published > 5)
        await until(lambda: len(told) == 1)
        assert told[0] and "127.0.0.1" not in told[0]
        before = it.inbox.published
        async with camera(port=int(url.split(":")[2].split("/")[0])):
            await until(lambda: it.inbox.published > before + 5, 6)
            assert told[1:] == [None]
            source.stop()
            await until(lambda: source.has_ended)


@needs_gstreamer
async def test_a_clean_end_is_a_loss_too() -> None:
    async with camera(frames=20) as url, stage() as it:
        told: list[str | None] = []
        source = RtspSource(url, it.inbox, told.append)
        source.start()
        await until(lambda: told != [], 8)
        assert it.inbox.published > 0
        source.stop()
        await until(lambda: source.has_ended, 7)


async def test_a_camera_that_is_not_there_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.sources.rtsp.RECONNECT_S", 0.05)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with stage() as it:
            told: list[str | None] = []
            url = f"rtsp://user:se/cret@127.0.0.1:{port}/camera"
            source = RtspSource(url, it.inbox, told.append)
            source.start()
            await until(lambda: told != [])
            await asyncio.sleep(0.3)
            source.stop()
            assert len(told) == 1 and told[0] and "cret" not in told[0]
            await until(lambda: source.has_ended)


async def test_a_silent_server_holds_neither_stop_nor_for_ever_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.sources.rtsp.OPEN_S", 1.0)
    async with stage() as it, nothing_left():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/camera"
            source = RtspSource(url, it.inbox, lambda reason: None)
            source.start()
            await asyncio.sleep(0.2)
            began = time.monotonic()
            source.stop()
            assert time.monotonic() - began < 0.05
            await until(lambda: source.has_ended, 4)


async def test_a_camera_that_takes_the_connection_and_says_nothing_is_told_as_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.sources.rtsp.OPEN_S", 0.5)
    async with stage() as it, nothing_left():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            told: list[str | None] = []
            url = f"rtsp://user:secret@127.0.0.1:{silent.getsockname()[1]}/camera"
            source = RtspSource(url, it.inbox, told.append)
            source.start()
            await until(lambda: told != [])
            source.stop()
            assert told == ["the camera did not answer within 0.5 s"]
            await until(lambda: source.has_ended, 4)


async def test_a_camera_that_hangs_up_at_once_is_not_told_as_silent() -> None:
    async with stage() as it:

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            told: list[str | None] = []
            url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/camera"
            source = RtspSource(url, it.inbox, told.append)
            source.start()
            await until(lambda: told != [])
            source.stop()
            assert told[0] and "did not answer" not in told[0]
            await until(lambda: source.has_ended, 4)


@pytest.mark.parametrize("url", ["http://a/b", "file:///etc/passwd", "camera", "rtsp://", "-i x"])
async def test_only_rtsp_urls_are_opened(url: str) -> None:
    async with stage() as it:
        with pytest.raises(SourceError, match="rtsp"):
            RtspSource(url, it.inbox, lambda reason: None)


def test_credentials_leave_every_text() -> None:
    texts = ("rtsp://u:p@h/x", "no rtsps://u:p/q@h:1 here", "rtsp://h/x")
    assert [without_credentials(text) for text in texts] == [
        "rtsp://h/x",
        "no rtsps://h:1 here",
        "rtsp://h/x",
    ]
