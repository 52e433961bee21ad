"""A peer's track of packets."""

import asyncio
import time

import av
import pytest
from aiortc.mediastreams import MediaStreamError

from stream.sinks.track import QUEUE_PACKETS, PacketTrack
from stream.steady import TakenTime
from stream.timestamps import WIRE_HZ


def packet(number: int, keyframe: bool) -> av.Packet:
    made = av.Packet(bytes([number]))
    made.pts = number
    made.is_keyframe = keyframe
    return made


class Renditions:
    """The face of a rendition: who attached, how often a keyframe was asked for."""

    def __init__(self) -> None:
        self.attached: list[PacketTrack] = []
        self.taken = TakenTime(WIRE_HZ)
        self.asked = 0

    def attach(self, track: PacketTrack) -> None:
        self.attached.append(track)

    def detach(self, track: PacketTrack) -> None:
        if track in self.attached:
            self.attached.remove(track)

    def request_keyframe(self) -> None:
        self.asked += 1


def made() -> tuple[PacketTrack, Renditions]:
    rendition = Renditions()
    return PacketTrack(rendition), rendition  # type: ignore[arg-type]


async def test_nothing_is_asked_of_the_rendition_before_the_sender_reads() -> None:
    track, rendition = made()
    track.request_keyframe()
    assert rendition.attached == [] and rendition.asked == 0
    reading = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    assert rendition.attached == [track]
    track.push(packet(1, True), time.monotonic())
    assert (await reading).pts == 1


async def test_packets_begin_with_a_keyframe_and_come_in_order() -> None:
    track, _ = made()
    reading = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    now_s = time.monotonic()
    for number, keyframe in ((1, False), (2, True), (3, False)):
        track.push(packet(number, keyframe), now_s)
    assert [(await reading).pts, (await track.recv()).pts] == [2, 3]


async def test_a_reader_that_falls_behind_skips_to_the_next_keyframe_and_asks_for_it() -> None:
    track, rendition = made()
    reading = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    track.push(packet(0, True), 0.0)
    await reading
    for number in range(1, QUEUE_PACKETS + 2):
        track.push(packet(number, False), 0.01 * number)
    assert track.high_water_packets == QUEUE_PACKETS
    reading = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0.01)
    assert rendition.asked == 1 and not reading.done()
    track.push(packet(50, False), 0.2)
    track.push(packet(51, True), 0.21)
    track.push(packet(52, False), 0.22)
    assert [(await reading).pts, (await track.recv()).pts] == [51, 52]
    assert track.skipped == QUEUE_PACKETS + 2


async def test_the_queue_is_bounded_in_time_too() -> None:
    track, _ = made()
    reading = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    track.push(packet(0, True), 0.0)
    await reading
    track.push(packet(1, False), 1.0)
    track.push(packet(2, False), 1.3)
    assert track.skipped == 2


async def test_stop_ends_a_waiting_reader_and_every_later_one() -> None:
    track, rendition = made()
    reading = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    track.stop()
    track.stop()
    for read in (reading, track.recv()):
        with pytest.raises(MediaStreamError):
            await read
    assert rendition.attached == []
    track.request_keyframe()
    assert rendition.asked == 0


async def test_a_track_that_is_moved_goes_on_with_a_later_keyframe_of_the_other() -> None:
    track, rendition = made()
    other = Renditions()
    reading = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    now_s = time.monotonic()
    track.push(packet(10, True), now_s)
    track.push(packet(11, False), now_s)
    await reading
    track.move(other)  # type: ignore[arg-type]
    track.move(other)  # type: ignore[arg-type]
    assert (rendition.attached, other.attached) == ([], [track])
    for number, keyframe in ((11, True), (12, False), (13, True), (14, False)):
        track.push(packet(number, keyframe), now_s)
    assert [(await track.recv()).pts for _ in range(3)] == [11, 13, 14]
    track.stop()
    track.move(rendition)  # type: ignore[arg-type]
    assert (rendition.attached, other.attached) == ([], [])
