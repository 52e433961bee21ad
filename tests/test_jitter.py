"""The jitter buffer, against loss, reordering and every odd sender."""

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.jitter import EncodedFrame, MarkerBuffer, Part, is_keyframe

KEY, DELTA = 0, 1  # VP8's P bit


def vp8(first: int, frame: int, packets: int, kind: int, ssrc: int = 1) -> list[Part]:
    """A frame's packets; its data tells its number."""
    parts = []
    for i in range(packets):
        data = bytes([kind, frame & 0xFF]) if i == 0 else bytes([2, frame & 0xFF])
        header = b"\x10" if i == 0 else b"\x00"
        sequence = (first + i) & 0xFFFF
        parts.append(
            Part(
                ssrc,
                sequence,
                (frame * 3000) & 0xFFFFFFFF,
                i == packets - 1,
                "VP8",
                header + data,
                data,
                arrival_s=frame / 30,
            )
        )
    return parts


def stream(kinds: Iterable[int], packets: int = 3, first: int = 65530) -> list[list[Part]]:
    frames = []
    for number, kind in enumerate(kinds):
        frames.append(vp8(first, number, packets, kind))
        first += packets
    return frames


class Rig:
    def __init__(self) -> None:
        self.out: list[EncodedFrame] = []
        self.asked: list[float] = []
        self.missed: list[tuple[float, tuple[int, ...]]] = []
        self.buffer = MarkerBuffer(self.out.append)

    def play(self, parts: Iterable[Part], at_s: float | None = None) -> None:
        for part in parts:
            now_s = part.arrival_s if at_s is None else at_s
            self.buffer.add(part, now_s)
            self.look(now_s)

    def look(self, now_s: float) -> None:
        wish = self.buffer.wish(now_s)
        if wish.keyframe:
            self.asked.append(now_s)
        if wish.missing:
            self.missed.append((now_s, wish.missing))

    def wait(self, until_s: float) -> None:
        """No packet comes: what a timer does."""
        while (due_s := self.buffer.due_s) is not None and due_s <= until_s:
            self.look(due_s)

    @property
    def numbers(self) -> list[int]:
        return [frame.data[1] for frame in self.out]


def test_a_frame_is_handed_on_at_its_marker_not_when_the_next_begins() -> None:
    rig = Rig()
    (frame,) = stream([KEY])
    rig.play(frame[:-1])
    assert rig.numbers == []
    rig.play(frame[-1:])
    assert rig.numbers == [0]
    assert rig.out[0].data == b"\x00\x00\x02\x00\x02\x00" and rig.out[0].keyframe


def test_reordered_packets_come_out_in_order_over_the_sequences_wrap() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA, DELTA])
    rig.play([*frames[0], *reversed(frames[2]), *reversed(frames[1]), *frames[3]])
    assert rig.numbers == [0, 1, 2, 3]


def test_a_retransmission_within_the_wait_mends_the_gap() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA])
    missing = frames[1].pop(1)
    rig.play([part for frame in frames for part in frame])
    assert rig.numbers == [0]
    rig.play([missing], at_s=0.1)
    assert rig.numbers == [0, 1, 2] and rig.asked == []


def test_a_gap_is_given_up_then_nothing_comes_before_the_next_keyframe() -> None:
    rig = Rig()
    frames = stream([KEY, *[DELTA] * 8, KEY, DELTA])
    del frames[2][0]
    rig.play(part for frame in frames for part in frame)
    assert rig.numbers == [0, 1, 9, 10]
    assert len(rig.asked) == 1
    assert rig.buffer.lost_frames > 0


def test_a_late_retransmission_smears_nothing() -> None:
    rig = Rig()
    frames = stream([KEY, *[DELTA] * 8, KEY])
    late = frames[2].pop(0)
    rig.play(part for frame in frames[:8] for part in frame)
    rig.play([late], at_s=0.3)
    rig.play(part for frame in frames[8:] for part in frame)
    assert rig.numbers == [0, 1, 9]


def test_a_keyframe_is_asked_for_each_300_ms_until_it_comes() -> None:
    rig = Rig()
    rig.play(part for frame in stream([DELTA] * 60) for part in frame)
    assert rig.numbers == []
    assert 6 <= len(rig.asked) <= 7
    assert all(b - a > 0.299 for a, b in pairwise(rig.asked))


def test_a_keyframe_that_lost_its_first_packet_is_no_keyframe() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, KEY, DELTA, DELTA, DELTA, DELTA, DELTA, KEY])
    del frames[2][0]
    frames[2][0] = Part(**{**_fields(frames[2][0]), "data": b"\x00\x02"})  # would pass for one
    rig.play(part for frame in frames for part in frame)
    assert rig.numbers == [0, 1, 8]


def test_when_the_decoder_broke_nothing_comes_before_the_next_keyframe() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA, KEY, DELTA])
    rig.play(frames[0])
    rig.buffer.require_keyframe()
    rig.play(part for frame in frames[1:] for part in frame)
    assert rig.numbers == [0, 3, 4]


def test_padding_between_frames_is_no_frame_and_no_gap() -> None:
    rig = Rig()
    key, delta = stream([KEY, DELTA])
    padding = Part(**{**_fields(key[-1]), "sequence": 65533, "marker": False, "data": b""})
    delta = [Part(**{**_fields(part), "sequence": (part.sequence + 1) & 0xFFFF}) for part in delta]
    rig.play([*key, padding, *delta])
    assert rig.numbers == [0, 1]


def test_a_sender_without_markers_is_understood_by_its_timestamps() -> None:
    rig = Rig()
    parts = [part for frame in stream([KEY, DELTA, DELTA]) for part in frame]
    rig.play(Part(**{**_fields(part), "marker": False}) for part in parts)
    assert rig.numbers == [0, 1]


def test_a_gap_is_given_up_by_the_clock_when_nothing_more_comes() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA])
    rig.play([*frames[0], frames[1][0], frames[1][2]], at_s=1.0)
    rig.wait(until_s=2.0)
    assert rig.numbers == [0]
    assert rig.buffer.lost_frames == 1
    assert rig.asked[0] == pytest.approx(1.08)  # within 100 ms of the loss
    assert [round(b - a, 3) for a, b in pairwise(rig.asked)] == [0.3, 0.3, 0.3]
    rig.play(frames[2], at_s=2.0)
    assert rig.numbers == [0]


def test_what_is_missing_is_asked_for_at_once_and_again_until_it_is_given_up() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA])
    rig.play([*frames[0], frames[1][2]], at_s=1.0)
    rig.wait(until_s=2.0)
    lost = {part.sequence for part in frames[1][:2]}
    assert [round(at_s, 3) for at_s, _ in rig.missed] == [1.0, 1.03, 1.06, 1.09]
    assert all(set(missing) == lost for _, missing in rig.missed)


def test_what_has_come_is_not_asked_for_again() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA])
    rig.play([*frames[0], frames[1][2]], at_s=1.0)
    rig.play(frames[1][:1], at_s=1.01)
    rig.wait(until_s=1.035)
    assert rig.missed[1:] == [(pytest.approx(1.03), (frames[1][1].sequence,))]
    rig.play(frames[1][1:2], at_s=1.04)
    rig.wait(until_s=2.0)
    assert rig.numbers == [0, 1] and len(rig.missed) == 2 and rig.asked == []
    assert rig.buffer.due_s is None


def test_from_a_sender_that_never_retransmits_only_a_keyframe_is_asked_for_and_sooner() -> None:
    rig = Rig()
    rig.buffer = MarkerBuffer(rig.out.append, retransmits=False)
    frames = stream([KEY, DELTA])
    rig.play([*frames[0], frames[1][2]], at_s=1.0)
    rig.wait(until_s=1.1)
    assert rig.missed == []
    assert rig.asked == [pytest.approx(1.03)]


def test_a_sender_that_says_it_retransmits_and_never_does_is_soon_known() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA] * 5)
    for i in range(4):
        key, lost, delta = frames[3 * i : 3 * i + 3]
        rig.play([*key, *lost[1:], *delta], at_s=0.2 * i)
        rig.wait(until_s=0.2 * i + 0.15)
    assert [round(at_s - 0.2 * i, 3) for i, at_s in enumerate(rig.asked)] == [
        0.08,
        0.08,
        0.08,
        0.03,
    ]
    key, late, delta = frames[12:]
    rig.play([*key, *late[1:], *delta, late[0]], at_s=0.8)
    assert rig.numbers[-3:] == [12, 13, 14]


def test_a_keyframe_that_was_asked_for_is_handed_on_though_there_is_a_gap_before_it() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA, KEY, DELTA])
    rig.play([*frames[0], *frames[2]], at_s=1.0)
    rig.wait(until_s=1.09)
    assert len(rig.asked) == 1 and rig.numbers == [0]
    rig.play(frames[3][::-1], at_s=1.09)
    assert rig.numbers == [0, 3]
    rig.play(frames[4], at_s=1.1)
    rig.wait(until_s=2.0)
    assert rig.numbers == [0, 3, 4] and len(rig.asked) == 1


def test_a_keyframe_that_was_not_asked_for_waits_for_the_gap_before_it() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, KEY])
    rig.play([*frames[0], *frames[1][1:], *frames[2]], at_s=1.0)
    assert rig.numbers == [0]
    rig.play(frames[1][:1], at_s=1.02)
    assert rig.numbers == [0, 1, 2]


def test_a_gap_that_nobody_could_mend_is_given_up_at_once() -> None:
    rig = Rig()
    frames = stream([KEY, *[DELTA] * 60])
    rig.play([*frames[0], *frames[-1]], at_s=1.0)
    assert rig.asked == [1.0] and rig.missed == []
    assert rig.numbers == [0]


def test_a_new_loss_is_asked_for_though_the_last_was_a_moment_ago() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA, KEY, DELTA, DELTA])
    rig.play([*frames[0], *frames[2]], at_s=1.0)
    rig.wait(until_s=1.1)
    rig.play([*frames[3], *frames[5]], at_s=1.1)
    rig.wait(until_s=1.2)
    assert rig.asked == [pytest.approx(1.08), pytest.approx(1.18)]


def test_old_packets_sent_once_more_do_not_turn_the_stream_back() -> None:
    rig = Rig()
    frames = stream([KEY, *[DELTA] * 400])
    rig.play(part for frame in frames[:390] for part in frame)
    rig.play([*frames[5], *frames[6], *frames[7]], at_s=13.0)  # a probe of the bandwidth
    rig.play(part for frame in frames[390:] for part in frame)
    assert len(rig.out) == 401 and rig.asked == []


def test_one_stray_packet_of_elsewhere_does_not_turn_the_stream() -> None:
    rig = Rig()
    frames = stream([KEY, DELTA, DELTA])
    rig.play([*frames[0], *vp8(30000, 9, 1, KEY), *frames[1], *vp8(7, 9, 1, KEY, 5), *frames[2]])
    assert rig.numbers == [0, 1, 2]


def test_a_sender_that_starts_anew_just_behind_is_followed_after_a_second() -> None:
    rig = Rig()
    frames = stream([KEY, *[DELTA] * 20])
    rig.play(part for frame in frames for part in frame)
    anew = [part for i in range(60) for part in vp8(65531 + i * 2, 100 + i, 2, KEY if i % 5 == 0
                                                    else DELTA)]  # fmt: skip
    rig.play(anew[:-20])
    rig.play(anew[-20:], at_s=10.0)
    assert rig.numbers[:21] == list(range(21))
    assert rig.numbers[21:] and rig.numbers[-1] == 159


@pytest.mark.parametrize("again", [{"ssrc": 2}, {"sequence": 20000}])
def test_a_sender_that_starts_anew_is_followed(again: dict[str, int]) -> None:
    rig = Rig()
    rig.play(part for frame in stream([KEY, DELTA]) for part in frame)
    anew = vp8(again.get("sequence", 5), 7, 2, KEY, again.get("ssrc", 1))
    rig.play(anew)
    assert rig.numbers == [0, 1, 7]


def test_timestamps_count_on_over_their_wrap() -> None:
    rig = Rig()
    frames = []
    for i in range(3):
        (part,) = vp8(i, i, 1, KEY)
        frames.append(Part(**{**_fields(part), "timestamp": (0xFFFFFFFF - 2999 + i * 3000)
                              & 0xFFFFFFFF}))  # fmt: skip
    rig.play(frames)
    assert [frame.timestamp for frame in rig.out] == [0, 3000, 6000]


def test_keyframes_of_h264_are_told_by_their_idr_slice() -> None:
    sps, pps = b"\0\0\0\1\x67abc", b"\0\0\0\1\x68d"
    assert is_keyframe("H264", sps + pps + b"\0\0\0\1\x65slice")
    assert is_keyframe("H264", sps + pps + b"\0\0\1\x25slice")
    assert not is_keyframe("H264", b"\0\0\0\1\x41slice")
    assert not is_keyframe("H264", sps + pps + b"\0\0\0\1\x41slice")
    assert not is_keyframe("H264", b"\0\0\0\1")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.3))
def test_whatever_is_lost_no_frame_is_torn_repeated_backwards_or_decoded_after_a_gap(
    seed: int, loss: float, disorder: float
) -> None:
    dice = random.Random(seed)
    kinds = [KEY if i % 11 == 0 else DELTA for i in range(80)]
    whole = {}
    wire: list[tuple[float, Part]] = []
    for number, frame in enumerate(stream(kinds, packets=dice.randint(1, 4))):
        whole[number] = b"".join(part.data for part in frame)
        for part in frame:
            if dice.random() >= loss:
                late_s = dice.random() * 0.2 if dice.random() < disorder else 0.0
                wire.append((part.arrival_s + late_s, part))
                if dice.random() < 0.05:
                    wire.append((part.arrival_s + dice.random() * 0.2, part))
    rig = Rig()
    for at_s, part in sorted(wire, key=lambda item: item[0]):
        rig.wait(at_s)
        rig.play([part], at_s)
    rig.wait(10.0)
    assert all(frame.data == whole[frame.data[1]] for frame in rig.out)
    assert all(a < b for a, b in pairwise(rig.numbers))
    for before, after in pairwise(rig.out):
        assert after.keyframe or after.data[1] == before.data[1] + 1


def _fields(part: Part) -> dict[str, object]:
    return {name: getattr(part, name) for name in Part.__slots__}
