"""A session's sound: the packets as they came, to those who may hear them, and nobody else."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from functools import partial
from itertools import pairwise

import aiohttp
import pytest
from aiortc import RTCRtpSender
from aiortc.rtp import RtcpPacket, RtcpSenderInfo, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st
from media import Stage, accept, nothing_left, offer_of, stage, until
from peers import Client, Performer
from server import serve
from voices import PACKET, Speaker, listen, spoken, steps

from stream import sending
from stream.audio import (
    QUEUE_PACKETS,
    QUEUE_S,
    SINK_PACKETS,
    AudioPacket,
    AudioTrack,
    OpusClock,
    OpusPacket,
    Sound,
    opus_packet,
)
from stream.sinks.viewer import Viewer
from stream.sources.webrtc import WebRtcSource
from stream.steady import SteadyTime, TakenTime


def opus(timestamp: int, arrival_s: float, ssrc: int = 1, payload: bytes = b"\xfc") -> OpusPacket:
    return OpusPacket(ssrc, timestamp & 0xFFFFFFFF, payload, arrival_s)


class Ear:
    """Keeps what is pushed."""

    def __init__(self) -> None:
        self.heard: list[AudioPacket] = []
        self.stopped = False

    def push(self, packet: AudioPacket, now_s: float) -> None:
        self.heard.append(packet)

    def stop(self) -> None:
        self.stopped = True


# ------------------------------------------------------------------------ the clock


def test_the_clock_counts_from_nothing_across_a_wrap() -> None:
    clock = OpusClock()
    start = 2**32 - 3 * PACKET
    seen = [clock(opus(start + n * PACKET, n * 0.02)) for n in range(8)]
    assert seen == [n * PACKET for n in range(8)]


def test_a_silence_that_was_not_sent_stays_a_gap() -> None:
    clock = OpusClock()
    clock(opus(7, 0.0))
    assert clock(opus(7 + 40 * 48_000, 40.0)) == 40 * 48_000


def test_a_packet_that_was_overtaken_keeps_its_place() -> None:
    clock = OpusClock()
    order = (0, 1, 3, 2, 4)
    assert [clock(opus(n * PACKET, 0.02 * n)) for n in order] == [n * PACKET for n in order]


def test_packets_that_were_held_up_and_come_at_once_keep_their_spacing() -> None:
    clock = OpusClock()
    clock(opus(0, 0.0))
    assert [clock(opus(n * PACKET, 3.0)) for n in range(1, 150)] == [
        n * PACKET for n in range(1, 150)
    ]


@pytest.mark.parametrize(
    ("timestamp", "ssrc"), [(123_456_789, 1), (-5 * 48_000, 1), (2 * PACKET, 2), (77, 3)]
)
def test_a_clock_that_jumps_and_a_new_stream_go_on_by_the_wall(timestamp: int, ssrc: int) -> None:
    clock = OpusClock()
    clock(opus(0, 0.0))
    clock(opus(PACKET, 0.02))
    after = clock(opus(timestamp, 0.52, ssrc))
    assert after == PACKET + 24_000
    assert clock(opus(timestamp + PACKET, 0.54, ssrc)) == after + PACKET


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 5), st.integers(1, 2)), max_size=40)
)
def test_whatever_comes_the_clock_leaps_neither_back_nor_ahead_of_the_wall(
    packets: list[tuple[int, float, int]],
) -> None:
    clock, now_s, most, most_s = OpusClock(), 0.0, 0, 0.0
    clock(opus(0, 0.0))
    for timestamp, gap_s, ssrc in packets:
        now_s += gap_s
        pts = clock(opus(timestamp, now_s, ssrc))
        assert most - 48_000 <= pts <= most + (now_s - most_s) * 48_000 + 48_001
        if pts >= most:
            most, most_s = pts, now_s


# ------------------------------------------------------------------------ one session's sound


async def test_packets_leave_in_order_once_each_however_they_came() -> None:
    sound, ear = Sound(), Ear()
    for _ in range(5):
        sound.saw_picture(0.06, time.monotonic())
    sound.attach(ear)
    for number in (0, 2, 1, 1, 4, 3, 5):
        sound.hear(opus(number * PACKET, time.monotonic(), payload=spoken("a", number)))
    assert not ear.heard  # they wait for their pictures
    await until(lambda: len(ear.heard) == 6)
    assert [bytes(it) for it in ear.heard] == [spoken("a", n) for n in range(6)]
    assert [it.pts for it in ear.heard] == [n * PACKET for n in range(6)]
    assert sound.late == 1 and sound.dropped == 0
    sound.hear(opus(3 * PACKET, time.monotonic()))
    await asyncio.sleep(0.1)
    assert len(ear.heard) == 6 and sound.late == 2


async def test_the_queue_is_bounded_in_packets_and_in_time() -> None:
    sound, ear = Sound(), Ear()
    for _ in range(5):
        sound.saw_picture(9.0, time.monotonic())  # beyond the longest delay
    sound.attach(ear)
    now_s = time.monotonic()
    for number in range(QUEUE_PACKETS + 30):
        sound.hear(opus(number * 120, now_s))
    assert sound.high_water_packets == QUEUE_PACKETS and sound.dropped == 30
    sound.hear(opus(48_000 * 2, now_s + QUEUE_S + 0.01))  # as if the loop had stood still
    assert sound.dropped == QUEUE_PACKETS + 30
    sound.close()
    assert ear.stopped and not ear.heard


async def test_after_the_end_there_is_silence() -> None:
    sound, ear, late_comer = Sound(), Ear(), Ear()
    sound.attach(ear)
    sound.hear(opus(0, time.monotonic()))
    sound.close()
    sound.hear(opus(PACKET, time.monotonic()))
    sound.attach(late_comer)
    await asyncio.sleep(0.05)
    assert not ear.heard and late_comer.stopped


async def test_a_listener_that_falls_behind_loses_the_oldest_alone() -> None:
    track = AudioTrack(Sound())
    for number in range(SINK_PACKETS + 5):
        track.push(opus_packet(b"\xfc", number), 0.001 * number)
    assert track.skipped == 5 and (await track.recv()).pts == 5
    track.push(opus_packet(b"\xfc", 999), 0.5)
    assert len(track._packets) == 1
    track.stop()


# ------------------------------------------------------------------------ with real peers


async def publish(it: Stage, sound: Sound, client: Client) -> WebRtcSource:
    it.renditions.on_picture = sound.saw_picture
    source = await WebRtcSource.open(
        await offer_of(client.pc, "VP8"), it.inbox, it.renditions, lambda state: None, sound
    )
    return source


def has_more_than(packets: list[OpusPacket], count: int) -> bool:
    return len(packets) > count


def ways(answer: str) -> dict[str, str]:
    """Of each section of an answer."""
    return {
        section.split()[0]: match[1]
        for section in answer.split("m=")[1:]
        if (match := re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)", section, re.M))
    }


async def test_every_packet_is_passed_on_as_it_came_and_no_thread_decodes() -> None:
    async with stage() as it, nothing_left():
        sound, speaker = Sound(), Speaker("a")
        publisher, viewer, deaf = Client(), Client(), Client()
        publisher.pc.addTransceiver(Performer("red", 30), "sendonly")
        publisher.pc.addTransceiver(speaker, "sendonly")
        source = await publish(it, sound, publisher)
        assert ways(source.answer) == {"audio": "recvonly", "video": "recvonly"}
        ear = viewer.pc.addTransceiver("audio", "recvonly")
        viewer.pc.addTransceiver("video", "recvonly")
        deaf.pc.addTransceiver("video", "recvonly")
        watching, watching_deaf = [
            await Viewer.open(
                await offer_of(one.pc, "VP8"), it.renditions, lambda state: None, sound
            )
            for one in (viewer, deaf)
        ]
        assert ways(watching.answer) == {"audio": "sendonly", "video": "sendonly"}
        assert ways(watching_deaf.answer) == {"video": "sendonly"}
        streams = re.findall(r"a=msid:(\S+)", watching.answer)
        assert len(streams) == 2 and len(set(streams)) == 1, "a browser plays one stream in step"
        heard = listen(ear)
        await accept(viewer.pc, watching.answer)
        await accept(deaf.pc, watching_deaf.answer)
        await until(lambda: viewer.pc.connectionState == "connected")
        await until(lambda: deaf.pc.connectionState == "connected")
        await accept(publisher.pc, source.answer)
        await until(lambda: len(heard) >= 40)
        names = {thread.name for thread in threading.enumerate()}
        assert "audio-decoder" not in names
        speaker.is_silent = lambda: True
        await until(lambda: len(heard) == len(speaker.said), 2)
        said = len(speaker.said)
        await asyncio.sleep(0.5)
        speaker.is_silent = lambda: False
        await until(lambda: len(heard) >= said + 10)
        assert [one.payload for one in heard] == speaker.said[: len(heard)]
        gaps = steps(heard)
        assert set(gaps[: said - 1] + gaps[said:]) == {1} and gaps[said - 1] > 10
        assert sound.late == sound.dropped == 0
        assert 0 < sound.high_water_packets < 25
        for closing in (watching, watching_deaf, source):
            await closing.close()
        sound.close()
        for client in (publisher, viewer, deaf):
            await client.close()


async def test_the_publisher_hears_itself_only_where_its_audio_is_sendrecv() -> None:
    async with stage() as it, nothing_left():
        sound, publisher, speaker = Sound(), Client(), Speaker("a")
        publisher.pc.addTransceiver(Performer("red", 30), "sendonly")
        ear = publisher.pc.addTransceiver(speaker, "sendrecv")
        source = await publish(it, sound, publisher)
        assert ways(source.answer) == {"audio": "sendrecv", "video": "recvonly"}
        heard = listen(ear)
        await accept(publisher.pc, source.answer)
        await until(lambda: len(heard) > 10)
        numbers = [speaker.said.index(one.payload) for one in heard]
        assert all(b == a + 1 for a, b in pairwise(numbers))
        await source.close()
        await publisher.close()


async def test_sound_goes_on_over_a_new_stream_of_the_same_publisher() -> None:
    async with stage() as it, nothing_left():
        sound, publisher, ear = Sound(), Client(), Ear()
        publisher.pc.addTransceiver(Performer("red", 30), "sendonly")
        sending = publisher.pc.addTransceiver(Speaker("a"), "sendonly")
        source = await publish(it, sound, publisher)
        sound.attach(ear)
        await accept(publisher.pc, source.answer)
        await until(lambda: len(ear.heard) > 5)
        sending.sender._ssrc += 1
        sending.sender.replaceTrack(Speaker("b"))
        await until(lambda: len([one for one in ear.heard if b"b" in bytes(one)]) > 10)
        at = [one.pts or 0 for one in ear.heard]
        assert all(b > a for a, b in pairwise(at))
        assert max(b - a for a, b in pairwise(at)) < 48_000
        await source.close()
        sound.close()
        await publisher.close()


async def test_a_report_tells_when_sound_was_taken_and_the_round_trip_is_still_known() -> None:
    speaker, sent = Client(), bytearray()
    sender = speaker.pc.addTransceiver("audio", "sendonly").sender
    taken = TakenTime(48_000)
    time_of = SteadyTime(taken)
    sending.steady_reports(sender, time_of)

    class Wire:
        async def _send_rtp(self, data: bytes) -> None:
            sent.extend(data)

    sender.setTransport(Wire())  # type: ignore[arg-type]  # all that it needs
    for number in range(99):
        taken.came(number * PACKET, number * 0.02)
        time_of.sent(number * PACKET, number * 0.02 + (0.09 if number == 98 else 0.0))
    info = RtcpSenderInfo(7 << 32, rtp_timestamp=5, packet_count=1, octet_count=1)
    await sender._send_rtcp([RtcpSrPacket(ssrc=sender._ssrc, sender_info=info)])
    (report,) = RtcpPacket.parse(bytes(sent))
    assert isinstance(report, RtcpSrPacket)
    told_s = report.sender_info.ntp_timestamp / 2**32
    assert told_s == pytest.approx(7 - 0.09, abs=0.002)
    lsr: int = sender._RTCRtpSender__lsr  # type: ignore[attr-defined]
    assert lsr == report.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
    await speaker.close()


@pytest.mark.parametrize("codec", ["PCMU", "G722"])
async def test_what_is_not_opus_is_answered_inactive(codec: str) -> None:
    async with stage() as it, nothing_left():
        sound, publisher = Sound(), Client()
        publisher.pc.addTransceiver(Performer("red", 30), "sendonly")
        audio = publisher.pc.addTransceiver("audio", "sendonly")
        audio.setCodecPreferences(
            [
                one
                for one in RTCRtpSender.getCapabilities("audio").codecs
                if one.mimeType == f"audio/{codec}"
            ]
        )
        source = await publish(it, sound, publisher)
        assert ways(source.answer)["audio"] == "inactive" and not sound.is_on
        await accept(publisher.pc, source.answer)
        await until(lambda: it.inbox.published > 0)
        viewer = Client()
        viewer.pc.addTransceiver("audio", "recvonly")
        viewer.pc.addTransceiver("video", "recvonly")
        watching = await Viewer.open(
            await offer_of(viewer.pc, "VP8"), it.renditions, lambda state: None, sound
        )
        assert ways(watching.answer)["audio"] == "inactive"
        await watching.close()
        await source.close()
        for client in (publisher, viewer):
            await client.close()


async def test_no_viewer_ever_hears_another_session_also_when_a_lane_changes_hands() -> None:
    flags = ("--model", "mirror", "--geometry", "64x64", "--max-sessions", "2", "--batch", "1")
    heard: dict[str, list[OpusPacket]] = {}
    async with serve(*flags) as server, aiohttp.ClientSession() as http:

        async def begin(who: str) -> tuple[Client, Speaker]:
            client, speaker = Client(), Speaker(who)
            client.pc.addTransceiver(speaker, "sendonly")
            await client.publish(
                http, server.base, Performer("red", 15, 64, 64), who, back=False, codec="VP8"
            )
            return client, speaker

        async def follow(who: str) -> Client:
            client = Client()
            heard[who] = listen(client.pc.addTransceiver("audio", "recvonly"))
            await client.watch(http, server.base, who, "VP8")
            return client

        everyone = []
        kept, _ = await begin("k")  # keeps its lane
        everyone += [kept, await follow("k")]
        for who in "abc":  # take the other, one after another
            publisher, _ = await begin(who)
            everyone.append(await follow(who))
            packets = heard[who]
            await until(partial(has_more_than, packets, 15), 8)
            assert await publisher.end(http) == 200
        await until(lambda: len(heard["k"]) > 60)
        for client in everyone:
            await client.close()
    for who, packets in heard.items():
        assert {bytes(it.payload[1:2]).decode() for it in packets} == {who}
        assert set(steps(packets)) == {1}
