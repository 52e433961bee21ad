"""One encoder for all who watch."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import av
import numpy as np
import pytest
from media import GEOMETRY, emit, until

from stream.card import make_card
from stream.codecs import Codec
from stream.decoder import open_decoder
from stream.encoder import Rendition, Renditions
from stream.feed import Feed
from workers.ring import OUTBOX_SLOTS, Arena, Ring

Encode = Callable[[np.ndarray, int, bool], list[av.Packet]]


class Sink:
    """Keeps the packets, and their pictures' mean."""

    def __init__(self, codec: Codec) -> None:
        self.packets: list[av.Packet] = []
        self.lumas: list[float] = []
        self.stopped = False
        self._decoder = open_decoder(codec.value)

    def push(self, packet: av.Packet, now_s: float) -> None:
        self.packets.append(packet)
        for frame in self._decoder.decode(packet):
            self.lumas.append(float(frame.to_ndarray()[: GEOMETRY.height].mean()))

    def stop(self) -> None:
        self.stopped = True

    @property
    def keys(self) -> int:
        return sum(packet.is_keyframe for packet in self.packets)


@contextlib.asynccontextmanager
async def encoding(
    codec: Codec = Codec.H264,
) -> AsyncIterator[tuple[Rendition, Feed, Ring]]:
    with ThreadPoolExecutor(2) as executor, Arena.create(GEOMETRY, lanes=1) as arena:
        feed = Feed(arena.outbox(0), 1, make_card(GEOMETRY))
        feed.open()
        renditions = Renditions(GEOMETRY, feed, executor)
        yield renditions.get(codec), feed, arena.outbox(0)
        await renditions.close()
        feed.close()


async def live(ring: Ring, frames: int, first: int = 1, fps: float = 30) -> None:
    for number in range(first, first + frames):
        emit(ring, 1, number, luma=40 + number, pts=number * 3000)
        await asyncio.sleep(1 / fps)


@pytest.mark.parametrize("codec", list(Codec))
async def test_frames_are_encoded_once_for_all_sinks(codec: Codec) -> None:
    async with encoding(codec) as (rendition, feed, ring):
        sinks = [Sink(codec), Sink(codec)]
        for sink in sinks:
            rendition.attach(sink)
        await live(ring, 20)
        await until(lambda: feed.taken == 20 and sinks[0].lumas[-1:] != [])
        assert [id(p) for p in sinks[0].packets] == [id(p) for p in sinks[1].packets]
        assert rendition.encoded == len(sinks[0].packets) <= 22
        assert abs(sinks[0].lumas[-1] - 60) < 3
        assert all(a.pts < b.pts for a, b in pairwise(sinks[0].packets))


async def test_without_sinks_nothing_is_encoded() -> None:
    async with encoding() as (rendition, _, ring):
        sink = Sink(Codec.H264)
        await live(ring, 5)
        assert rendition.encoded == 0
        rendition.attach(sink)
        await until(lambda: sink.packets != [])
        rendition.detach(sink)
        rendition.detach(sink)
        before = rendition.encoded
        await live(ring, 5, first=6)
        assert rendition.encoded <= before + 1


async def test_the_first_picture_of_a_silent_session_is_the_card_at_once() -> None:
    async with encoding() as (rendition, _, _ring):
        sink = Sink(Codec.H264)
        rendition.attach(sink)
        await until(lambda: sink.packets != [], 0.3)
        assert sink.packets[0].is_keyframe
        assert abs(sink.lumas[0] - make_card(GEOMETRY)[: GEOMETRY.height].mean()) < 3


async def test_a_later_viewer_of_a_live_session_gets_a_keyframe_and_no_frame_twice() -> None:
    async with encoding() as (rendition, _, ring):
        first, second = Sink(Codec.H264), Sink(Codec.H264)
        rendition.attach(first)
        playing = asyncio.ensure_future(live(ring, 40))
        await asyncio.sleep(0.6)
        rendition.attach(second)
        await playing
        await until(lambda: second.packets != [])
        key = next(i for i, p in enumerate(first.packets) if p is second.packets[0])
        assert key == 0 or second.packets[0].is_keyframe
        assert second.keys == 1
        assert rendition.encoded <= 41  # the frames, and the card before them


async def test_requests_make_one_keyframe_each_300_ms_and_none_is_lost() -> None:
    async with encoding() as (rendition, _, ring):
        sink = Sink(Codec.H264)
        rendition.attach(sink)
        made: list[float] = []
        push = sink.push

        def watched(packet: av.Packet, now_s: float) -> None:
            made.extend([now_s] * packet.is_keyframe)
            push(packet, now_s)

        sink.push = watched  # type: ignore[method-assign]
        playing = asyncio.ensure_future(live(ring, 45))
        while not playing.done():
            rendition.request_keyframe()
            await asyncio.sleep(0.01)
        assert 4 <= len(made) <= 7
        assert all(b - a > 0.28 for a, b in pairwise(made))
        before = len(made)
        rendition.request_keyframe()
        await until(lambda: len(made) > before, 1.0)  # silent now: the held frame


async def test_a_held_frames_time_advances_by_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.feed.REPEAT_S", 0.2)
    async with encoding() as (rendition, _, ring):
        sink = Sink(Codec.H264)
        emit(ring, 1, 1, luma=90, pts=5_000_000)
        rendition.attach(sink)
        await asyncio.sleep(1.1)
        steps = [b.pts - a.pts for a, b in pairwise(sink.packets)][1:]
        assert len(steps) >= 3
        assert all(abs(step - 0.2 * 90_000) < 4000 for step in steps)


async def test_while_one_frame_is_encoded_only_the_newest_waits() -> None:
    async with encoding() as (rendition, feed, ring):
        sink, busy = Sink(Codec.H264), threading.Event()
        encode = rendition._encoder.encode

        def slow(pixels: np.ndarray, pts: int, keyframe: bool) -> list[av.Packet]:
            before = pixels.copy()
            busy.wait(0.15)
            assert (pixels == before).all(), "a slot was overwritten while it was encoded"
            return encode(pixels, pts, keyframe)

        rendition._encoder.encode = slow  # type: ignore[method-assign]
        rendition.attach(sink)
        await live(ring, 30)
        await asyncio.sleep(0.4)
        assert rendition.encoded < 12
        assert abs(sink.lumas[-1] - 70) < 3  # the newest came through
        assert feed.high_water_claimed <= 3
        assert rendition.failed == 0


async def test_an_encoder_that_fails_is_opened_anew() -> None:
    async with encoding() as (rendition, _, ring):
        sink = Sink(Codec.H264)

        def fails(*_: object) -> list[av.Packet]:
            raise av.error.ExternalError(1, "broken")

        rendition._encoder.encode = fails  # type: ignore[method-assign]
        rendition.attach(sink)
        await live(ring, 10)
        assert rendition.failed == 1
        assert sink.packets[0].is_keyframe


async def test_a_feed_that_closes_while_a_frame_is_encoded_ends_the_pictures() -> None:
    async with encoding() as (rendition, feed, ring):
        sink, encode = Sink(Codec.H264), rendition._encoder.encode

        def slow(*a: object) -> list[av.Packet]:
            time.sleep(0.1)
            return encode(*a)  # type: ignore[arg-type]

        rendition._encoder.encode = slow  # type: ignore[method-assign]
        rendition.attach(sink)
        emit(ring, 1, 1, luma=9)
        await until(lambda: feed.taken == 1 and rendition._job is not None)
        emit(ring, 1, 2, luma=9)
        await until(lambda: feed.taken == 2)
        feed.close()
        rendition.request_keyframe()
        await asyncio.sleep(0.3)
        assert len(sink.packets) <= 2 and rendition.failed == 0
        while (left := ring.take()) is not None:
            ring.give_back(left.slot)
        assert all(ring.claim_free() is not None for _ in range(OUTBOX_SLOTS))


async def test_close_waits_for_the_slot_in_work_and_stops_every_sink() -> None:
    with ThreadPoolExecutor(2) as executor, Arena.create(GEOMETRY, lanes=1) as arena:
        feed = Feed(arena.outbox(0), 1, make_card(GEOMETRY))
        feed.open()
        renditions = Renditions(GEOMETRY, feed, executor)
        rendition, sink = renditions.get(Codec.VP8), Sink(Codec.VP8)
        encode = rendition._encoder.encode

        def slow(*a: object) -> list[av.Packet]:
            time.sleep(0.1)
            return encode(*a)  # type: ignore[arg-type]

        rendition._encoder.encode = slow  # type: ignore[method-assign]
        rendition.attach(sink)
        emit(arena.outbox(0), 1, 1, luma=9)
        await asyncio.sleep(0.05)
        await renditions.close()
        feed.close()
        assert sink.stopped
        ring = arena.outbox(0)
        while (left := ring.take()) is not None:
            ring.give_back(left.slot)
        assert all(ring.claim_free() is not None for _ in range(OUTBOX_SLOTS))
        late = Sink(Codec.VP8)
        rendition.attach(late)
        assert late.stopped


async def test_four_renditions_with_slow_encoders_leave_the_worker_its_slots() -> None:
    with ThreadPoolExecutor(2) as executor, Arena.create(GEOMETRY, lanes=1) as arena:
        ring = arena.outbox(0)
        feed = Feed(ring, 1, make_card(GEOMETRY))
        feed.open()
        renditions = Renditions(GEOMETRY, feed, executor)
        sinks, opened = [], []
        for codec in Codec:
            for rendition in (renditions.get(codec), renditions.lower(codec, 100_000)):
                opened.append(rendition)
                encode = rendition._encoder.encode

                def slow(
                    pixels: np.ndarray, pts: int, keyframe: bool, encode: Encode = encode
                ) -> list[av.Packet]:
                    before = pixels.copy()
                    time.sleep(0.06)
                    assert (pixels == before).all(), "a slot was overwritten in the encoder"
                    return encode(pixels, pts, keyframe)

                rendition._encoder.encode = slow  # type: ignore[method-assign]
                sinks.append(Sink(codec))
                rendition.attach(sinks[-1])
        await live(ring, 60)  # a claim that fails fails there
        await until(lambda: all(abs(sink.lumas[-1] - 100) < 3 for sink in sinks if sink.lumas), 8)
        assert feed.high_water_claimed <= 3
        assert all(sink.lumas for sink in sinks)
        assert [rendition.failed for rendition in opened] == [0, 0, 0, 0]
        assert all(a.pts < b.pts for sink in sinks for a, b in pairwise(sink.packets))
        await renditions.close()
        feed.close()
        while (left := ring.take()) is not None:
            ring.give_back(left.slot)
        assert all(ring.claim_free() is not None for _ in range(OUTBOX_SLOTS))


async def test_a_lower_rendition_shows_every_other_frame_and_holds_no_slot() -> None:
    async with encoding() as (rendition, feed, ring):
        with ThreadPoolExecutor(1) as executor:
            renditions = Renditions(GEOMETRY, feed, executor)
            lower, sink, main = (
                renditions.lower(Codec.H264, 100_000),
                Sink(Codec.H264),
                Sink(Codec.H264),
            )
            encode, borrowed = lower._encoder.encode, list[bool]()

            def watched(pixels: np.ndarray, pts: int, keyframe: bool) -> list[av.Packet]:
                slots = [ring.view(slot) for slot in range(OUTBOX_SLOTS)]
                borrowed.append(any(np.shares_memory(pixels, slot) for slot in slots))
                return encode(pixels, pts, keyframe)

            lower._encoder.encode = watched  # type: ignore[method-assign]
            rendition.attach(main)
            lower.attach(sink)
            await live(ring, 60)
            assert 20 <= len(sink.packets) <= 35 < len(main.packets)
            assert set(borrowed) == {False}
            lower.detach(sink)
            renditions.drop_lower(Codec.H264)
            assert renditions.lower_count == 0
            await renditions.close()


async def test_when_the_last_sink_leaves_the_codec_is_let_go() -> None:
    async with encoding() as (rendition, _, ring):
        sink = Sink(Codec.H264)
        rendition.attach(sink)
        await live(ring, 5)
        await until(lambda: sink.packets != [])
        assert rendition._encoder._context is not None
        rendition.detach(sink)
        assert rendition._encoder._context is None
