"""A publisher over WebRTC, with real aiortc peers on loopback."""

import asyncio
import re
import time

import numpy as np
import pytest
from aiortc import RTCPeerConnection
from media import Stage, accept, nothing_left, offer_of, stage, until
from peers import Performer, peer, read

from stream.rtc import close_quietly
from stream.sinks.viewer import Viewer
from stream.sources.webrtc import WebRtcSource
from workers.errors import OfferUnsupported
from workers.geometry import Geometry


class Camera(Performer):
    """A grey performer whose size may change while it plays."""

    def __init__(self, fps: float = 30) -> None:
        super().__init__("red", fps, 320, 240)


async def publish(
    stage: Stage, pc: RTCPeerConnection, codec: str | None = None, states: list[str] | None = None
) -> WebRtcSource:
    heard: list[str] = [] if states is None else states
    source = await WebRtcSource.open(
        await offer_of(pc, codec), stage.inbox, stage.renditions, heard.append
    )
    await accept(pc, source.answer)
    return source


@pytest.mark.parametrize("codec", ["H264", "VP8"])
async def test_a_camera_comes_back_as_its_avatar_on_the_same_connection(codec: str) -> None:
    async with stage(Geometry(160, 120)) as it, nothing_left():
        pc, camera = peer(), Performer("red", 30)
        pc.addTransceiver(camera, "sendrecv")
        states: list[str] = []
        source = await publish(it, pc, codec, states)
        track = pc.getReceivers()[0].track
        seen = []
        async with asyncio.timeout(8):
            while len([s for s in seen if s.colour == "red"]) < 25:
                seen.append(read(await track.recv()))
        numbers = [s.number for s in seen if s.colour == "red"]
        assert numbers == sorted(set(numbers))
        assert len(numbers) >= (numbers[-1] - numbers[0] + 1) / 2
        assert states[:2] == ["connecting", "connected"]
        assert not [s for s in seen if s.colour not in ("red", "grey", None)]  # grey: the card
        await source.close()
        await pc.close()


async def test_a_send_only_offer_is_received_only_and_audio_is_answered_inactive() -> None:
    async with stage() as it, nothing_left():
        pc = peer()
        pc.addTransceiver("audio", "sendonly")
        pc.addTransceiver(Camera(), "sendonly")
        source = await publish(it, pc)
        audio, video = source.answer.split("m=video")
        assert "a=inactive" in audio.split("m=audio")[1] and "a=recvonly" in video
        await until(lambda: it.inbox.published > 3)
        await source.close()
        await pc.close()


async def test_every_change_of_size_goes_on_in_the_same_lane() -> None:
    async with stage() as it, nothing_left():
        pc, camera = peer(), Camera()
        pc.addTransceiver(camera, "sendonly")
        source = await publish(it, pc, "H264")
        sizes: list[tuple[int, int]] = []
        real_scale = it.inbox._scaler.scale

        def scale(frame, slot):  # type: ignore[no-untyped-def]
            sizes.append((frame.width, frame.height))
            real_scale(frame, slot)

        it.inbox._scaler.scale = scale  # type: ignore[method-assign]
        for size in ((640, 480), (360, 640), (640, 480)):
            camera.size = size
            before = len(sizes)
            await until(lambda before=before, size=size: sizes[before:].count(size) >= 5)
        assert source._receiving is not None and source._receiving.decoder.failed == 0
        await source.close()
        await pc.close()


async def test_closing_never_holds_the_loop_even_while_a_decoder_is_stuck() -> None:
    async with stage() as it, nothing_left():
        pc = peer()
        pc.addTransceiver(Camera(), "sendonly")
        source = await publish(it, pc)
        await until(lambda: it.inbox.published > 0)
        real_put = it.inbox.put
        it.inbox.put = lambda *a: (time.sleep(0.8), real_put(*a))  # type: ignore[method-assign]
        await asyncio.sleep(0.1)
        longest, running = 0.0, True

        async def watch() -> None:
            nonlocal longest
            while running:
                began = time.monotonic()
                await asyncio.sleep(0.005)
                longest = max(longest, time.monotonic() - began)

        watching = asyncio.ensure_future(watch())
        began = time.monotonic()
        await source.close()
        await source.close()
        took_s = time.monotonic() - began
        running = False
        await watching
        assert took_s < 2.0
        assert longest < 0.4  # half of what the decoder is stuck for
        await pc.close()


async def test_no_frame_comes_after_close() -> None:
    async with stage() as it:
        pc = peer()
        pc.addTransceiver(Camera(), "sendonly")
        source = await publish(it, pc)
        await until(lambda: it.inbox.published > 3)
        await source.close()
        published = it.inbox.published
        await asyncio.sleep(0.2)
        assert it.inbox.published == published
        await pc.close()


async def test_a_peer_that_leaves_is_told_as_closed() -> None:
    async with stage() as it, nothing_left():
        pc, states = peer(), []
        pc.addTransceiver(Camera(), "sendonly")
        source = await publish(it, pc, states=states)
        # Of one that leaves before it is connected itself nothing is heard.
        await until(lambda: "connected" in states and pc.connectionState == "connected")
        await pc.close()
        await until(lambda: "closed" in states)
        await source.close()


async def test_a_connection_closed_at_any_moment_while_it_comes_about_leaves_nothing() -> None:
    async with stage() as it, nothing_left():
        for step in range(20):
            pc = peer()
            pc.addTransceiver(Camera(), "sendrecv")
            source = await publish(it, pc)
            await asyncio.sleep(step * 0.0015)
            began = time.monotonic()
            await source.close()
            assert time.monotonic() - began < 2.0
            await close_quietly(pc)  # aiortc alone leaves tasks behind then


@pytest.mark.parametrize(
    ("setup", "answered"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
async def test_who_begins_dtls_is_left_to_the_peer_where_it_may_choose(
    setup: str, answered: str
) -> None:
    async with stage() as it, nothing_left():
        pc = peer()
        pc.addTransceiver(Camera(), "sendonly")
        offer = (await offer_of(pc)).replace("setup:actpass", f"setup:{setup}")
        source = await WebRtcSource.open(offer, it.inbox, None, lambda state: None)
        assert set(re.findall(r"a=setup:(\w+)", source.answer)) == {answered}
        await accept(pc, source.answer)
        await until(lambda: it.inbox.published > 0)
        await source.close()
        await pc.close()


async def test_many_viewers_see_the_session_each_in_its_codec() -> None:
    async with stage(Geometry(160, 120)) as it, nothing_left():
        publisher = peer()
        publisher.addTransceiver(Performer("blue", 30), "sendonly")
        source = await publish(it, publisher, "VP8")
        await until(lambda: it.mirrored > 3)
        viewers, pcs = [], []
        for codec in ("H264", "VP8", "H264"):
            pc = peer()
            pc.addTransceiver("video", "recvonly")
            viewer = await Viewer.open(await offer_of(pc, codec), it.renditions, lambda state: None)
            await accept(pc, viewer.answer)
            viewers.append(viewer)
            pcs.append(pc)

        async def blue_within(pc: RTCPeerConnection) -> list[int]:
            numbers: list[int] = []
            while len(numbers) < 10:
                seen = read(await pc.getReceivers()[0].track.recv())
                assert seen.colour in ("blue", "grey", None)  # grey: the card
                numbers += [seen.number] if seen.colour == "blue" else []
            return numbers

        async with asyncio.timeout(8):
            for numbers in await asyncio.gather(*map(blue_within, pcs)):
                assert numbers == sorted(set(numbers))
        assert it.feed.high_water_claimed <= 3
        for viewer in viewers:
            await viewer.close()
        await source.close()
        for pc in (*pcs, publisher):
            await pc.close()


async def test_a_viewers_first_picture_comes_at_once_although_nothing_moves() -> None:
    async with stage() as it, nothing_left():
        pc = peer()
        pc.addTransceiver("video", "recvonly")
        viewer = await Viewer.open(await offer_of(pc, "VP8"), it.renditions, lambda state: None)
        await accept(pc, viewer.answer)
        frames: list[np.ndarray] = []

        async def watch() -> None:
            # aiortc's receiver hands on a frame when the next has begun
            frames.append((await pc.getReceivers()[0].track.recv()).to_ndarray())

        async with asyncio.timeout(4):
            await watch()
        card = it.feed.latest.array
        assert np.abs(frames[0].astype(int) - card).mean() < 4
        await viewer.close()
        await pc.close()


async def test_an_offer_that_aiortc_cannot_answer_is_refused_in_words_and_leaves_nothing() -> None:
    spoils = (
        lambda sdp: sdp.replace("packetization-mode=1", "packetization-mode=0"),
        lambda sdp: sdp.replace("a=rtcp-mux", ""),
        lambda sdp: sdp.replace("a=ice-ufrag", "a=ice-nothing"),
    )
    pc = peer()
    pc.addTransceiver(Camera(), "sendrecv")
    pc.addTransceiver("audio", "sendonly")
    sdp = await offer_of(pc, "H264")
    for spoil in spoils:
        async with stage() as it, nothing_left():
            with pytest.raises(OfferUnsupported, match="offer VP8"):
                await WebRtcSource.open(spoil(sdp), it.inbox, it.renditions, lambda state: None)
            with pytest.raises(OfferUnsupported, match="offer VP8"):
                await Viewer.open(spoil(sdp), it.renditions, lambda state: None)
    await pc.close()


async def test_a_peer_that_hides_its_addresses_connects_at_once() -> None:
    async with stage() as it, nothing_left():
        pc, states = peer(), []
        pc.addTransceiver(Camera(), "sendonly")
        sdp = "\r\n".join(
            re.sub(r" udp (\d+) \S+ ", r" udp \1 0a1b-2c3d.local ", line)
            for line in (await offer_of(pc)).splitlines()
        )
        assert "0a1b-2c3d.local" in sdp
        began = time.monotonic()
        source = await WebRtcSource.open(sdp + "\r\n", it.inbox, None, states.append)
        assert time.monotonic() - began < 0.9  # to look the name up would take a second
        await accept(pc, source.answer)
        await until(lambda: it.inbox.published > 0)
        await source.close()
        await pc.close()
