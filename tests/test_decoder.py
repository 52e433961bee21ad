"""The decoder's thread and its bounded queue."""

import threading
import time

import av
import numpy as np
import pytest
from media import picture

from stream.codecs import Codec, VideoEncoder
from stream.decoder import VideoDecoder
from stream.jitter import EncodedFrame, is_keyframe
from workers.geometry import Geometry


def encoded(codec: Codec, count: int, size: tuple[int, int] = (64, 48)) -> list[EncodedFrame]:
    encoder = VideoEncoder(codec, Geometry(*size))
    frames = []
    for i in range(count):
        pixels = picture(*size, 40 + i * 10).to_ndarray()
        (packet,) = encoder.encode(pixels, i * 3000, False)
        data = bytes(packet)
        key = is_keyframe(codec.value, data)
        frames.append(EncodedFrame(codec.value, data, i * 3000, key, time.monotonic()))
    return frames


class Shown:
    def __init__(self) -> None:
        self.frames: list[tuple[int, int, int | None]] = []
        self.gate = threading.Event()
        self.gate.set()

    def put(self, frame: av.VideoFrame, arrival_s: float) -> None:
        assert self.gate.wait(5)
        luma = int(frame.to_ndarray()[: frame.height].mean().round())
        self.frames.append((frame.width, luma, frame.pts))


def wait(true) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("codec", list(Codec))
def test_each_frame_is_decoded_at_once_in_order(codec: Codec) -> None:
    shown = Shown()
    decoder = VideoDecoder(shown, lambda: None)
    for n, frame in enumerate(encoded(codec, 6), 1):
        decoder.put(frame, time.monotonic())
        wait(lambda n=n: len(shown.frames) == n)
    assert [pts for *_, pts in shown.frames] == [i * 3000 for i in range(6)]
    assert np.allclose([luma for _, luma, _ in shown.frames], [40 + i * 10 for i in range(6)], 0, 3)
    decoder.close()


@pytest.mark.parametrize("codec", list(Codec))
def test_a_change_of_size_and_of_codec_goes_on(codec: Codec) -> None:
    shown, broken = Shown(), []
    decoder = VideoDecoder(shown, lambda: broken.append(1))
    other = Codec.VP8 if codec is Codec.H264 else Codec.H264
    for frame in (
        *encoded(codec, 2, (64, 48)),
        *encoded(codec, 2, (36, 64)),
        *encoded(other, 2, (64, 48)),
    ):
        decoder.put(frame, time.monotonic())
    wait(lambda: len(shown.frames) == 6)
    assert [width for width, *_ in shown.frames] == [64, 64, 36, 36, 64, 64]
    assert not broken
    decoder.close()


def test_an_old_backlog_is_dropped_up_to_the_next_keyframe_which_is_asked_for() -> None:
    shown, broken = Shown(), []
    decoder = VideoDecoder(shown, lambda: broken.append(1))
    frames = encoded(Codec.VP8, 6)
    shown.gate.clear()
    now_s = time.monotonic()
    for frame in frames[:4]:
        decoder.put(frame, now_s)
    wait(lambda: len(decoder._queue) == 3)  # the first is in work
    decoder.put(frames[4], now_s + 1.0)
    assert broken == [1]
    assert decoder.skipped == 4
    (key,) = encoded(Codec.VP8, 1)
    decoder.put(key, now_s + 1.0)
    shown.gate.set()
    wait(lambda: len(shown.frames) == 2)
    decoder.close()


def test_a_keyframe_that_finds_an_old_backlog_takes_its_place() -> None:
    shown, broken = Shown(), []
    decoder = VideoDecoder(shown, lambda: broken.append(1))
    frames = encoded(Codec.VP8, 3)
    shown.gate.clear()
    now_s = time.monotonic()
    for frame in frames:
        decoder.put(frame, now_s)
    wait(lambda: len(decoder._queue) == 2)
    decoder.put(frames[0], now_s + 1.0)
    shown.gate.set()
    wait(lambda: len(shown.frames) == 2)
    assert not broken and decoder.skipped == 2
    decoder.close()


def test_what_does_not_decode_asks_for_a_keyframe_and_the_thread_lives() -> None:
    shown, broken = Shown(), []
    decoder = VideoDecoder(shown, lambda: broken.append(1))
    decoder.put(EncodedFrame("H264", b"\0\0\0\1\x65junk", 0, True, 0.0), 0.0)
    wait(lambda: broken)
    (frame,) = encoded(Codec.H264, 1)
    decoder.put(frame, time.monotonic())
    wait(lambda: shown.frames)
    assert decoder.failed == 1
    decoder.close()


def test_close_returns_at_once_and_the_thread_ends_by_itself() -> None:
    shown = Shown()
    decoder = VideoDecoder(shown, lambda: None)
    shown.gate.clear()
    for frame in encoded(Codec.VP8, 4):
        decoder.put(frame, time.monotonic())
    wait(lambda: len(decoder._queue) == 3)
    began = time.monotonic()
    decoder.close()
    assert time.monotonic() - began < 0.05
    shown.gate.set()
    assert decoder._thread is not None
    decoder._thread.join(2)
    assert not decoder._thread.is_alive()
    assert len(shown.frames) == 1
