"""The two codecs, set for live pictures."""

from collections.abc import Iterator

import av
import numpy as np
import pytest

from stream.card import make_card
from stream.codecs import Codec, VideoEncoder, bit_rate_for
from stream.decoder import open_decoder
from workers.geometry import Geometry

GEOMETRY = Geometry(256, 256)


def moving(count: int) -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 200, (32, 32), dtype=np.uint8)
    picture = noise.repeat(8, 0).repeat(8, 1)
    frames = []
    for i in range(count):
        frame = make_card(GEOMETRY)
        frame[:256] = 16 + np.roll(picture, 3 * i, 1)
        frames.append(frame)
    return frames


@pytest.mark.parametrize("codec", list(Codec))
def test_each_frame_gives_its_packet_at_once_and_decodes_to_the_same_picture(codec: Codec) -> None:
    encoder, decoder = VideoEncoder(codec, GEOMETRY), open_decoder(codec.value)
    card = make_card(GEOMETRY)
    for i in range(10):
        (packet,) = encoder.encode(card, i * 3000, keyframe=False)
        (frame,) = decoder.decode(packet)
        assert frame.pts == i * 3000
        assert np.abs(frame.to_ndarray().astype(int) - card).mean() < 2


@pytest.mark.parametrize("codec", list(Codec))
def test_keyframes_come_first_and_on_request_alone(codec: Codec) -> None:
    encoder = VideoEncoder(codec, GEOMETRY)
    frames = moving(150)
    frames[60:] = [255 - frame for frame in frames[60:]]  # a cut is no reason for one
    keys = [
        i
        for i, frame in enumerate(frames)
        for packet in encoder.encode(frame, i * 3000, keyframe=i == 100)
        if packet.is_keyframe
    ]
    assert keys == [0, 100]


@pytest.mark.parametrize("codec", list(Codec))
def test_a_viewer_may_begin_at_any_keyframe(codec: Codec) -> None:
    encoder, decoder = VideoEncoder(codec, GEOMETRY), open_decoder(codec.value)
    for i, frame in enumerate(moving(8)):
        (packet,) = encoder.encode(frame, i * 3000, keyframe=i == 5)
        if i >= 5:
            assert len(decoder.decode(packet)) == 1


@pytest.mark.parametrize("codec", list(Codec))
def test_a_hard_picture_stays_near_its_bit_rate(codec: Codec) -> None:
    encoder = VideoEncoder(codec, GEOMETRY)
    sizes = [encoder.encode(frame, i * 3000, False)[0].size for i, frame in enumerate(moving(180))]
    bits_per_s = sum(sizes[60:]) * 8 / 4
    assert bits_per_s < 1.4 * bit_rate_for(GEOMETRY, 30)


def test_h264_names_its_colours_and_profile() -> None:
    (packet,) = VideoEncoder(Codec.H264, GEOMETRY).encode(make_card(GEOMETRY), 0, True)
    decoder = open_decoder("H264")
    (frame,) = decoder.decode(packet)
    assert (int(frame.color_range), int(frame.colorspace)) == (1, 6)  # limited, BT.601
    assert decoder.profile == "Constrained Baseline"


def hard(count: int) -> Iterator[np.ndarray]:
    dice = np.random.default_rng(1)
    for frame in moving(count):
        frame[:256] += dice.integers(0, 40, (256, 256), dtype=np.uint8)
        yield frame


def encoded(encoder: VideoEncoder, rates: dict[int, int], count: int) -> list[av.Packet]:
    """A packet a frame; rates: what is wanted from which frame on."""
    packets = []
    for i, frame in enumerate(hard(count)):
        encoder.bit_rate = rates.get(i, encoder.bit_rate)
        packets += encoder.encode(frame, i * 3000, False)
    return packets


def bit_rate(packets: list[av.Packet]) -> float:
    return sum(packet.size for packet in packets) * 8 * 30 / len(packets)


def test_h264_follows_its_bit_rate_down_and_up_without_a_keyframe() -> None:
    encoder = VideoEncoder(Codec.H264, GEOMETRY)
    packets = encoded(encoder, {90: 100_000, 210: 300_000}, 330)
    assert sum(packet.is_keyframe for packet in packets) == 1
    assert bit_rate(packets[150:210]) < 130_000
    assert bit_rate(packets[270:]) > 240_000


def test_h264_opened_at_a_low_rate_keeps_to_it_and_has_room_to_rise() -> None:
    encoder = VideoEncoder(Codec.H264, GEOMETRY, bit_rate=120_000)
    packets = encoded(encoder, {120: 220_000}, 240)
    assert sum(packet.is_keyframe for packet in packets) == 1
    assert bit_rate(packets[60:120]) < 150_000
    assert bit_rate(packets[180:]) > 170_000


def test_vp8_is_built_anew_for_a_large_change_alone_and_not_each_few_seconds() -> None:
    encoder = VideoEncoder(Codec.VP8, GEOMETRY)
    packets = encoded(encoder, {60: 280_000, 90: 100_000, 130: 300_000}, 300)
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    assert keys == [0, 120, 240]


def test_the_bit_rate_goes_by_the_size_within_bounds() -> None:
    assert bit_rate_for(Geometry(512, 512), 30) == pytest.approx(1_200_000, rel=0.02)
    assert bit_rate_for(Geometry(16, 16), 30) == 300_000
    assert bit_rate_for(Geometry(4096, 4096), 30) == 6_000_000
