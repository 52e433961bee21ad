"""RTP packets in any order in, whole frames in order out, each at its marker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GIVE_UP_S = 0.1  # a gap is waited for this long: a retransmission has come by then, or never will
ASK_EVERY_S = 0.3
FIRST_ASK_S = 0.05  # a stream opens with its keyframe; if we missed that, soon ask for another
_CAPACITY = 2048  # packets behind a gap
_RESTART = 512  # this far back no packet is late: the sender has started anew


@dataclass(frozen=True, slots=True)
class Part:
    """One RTP packet, its payload also without the codec's RTP framing."""

    ssrc: int
    sequence: int  # 16 bits
    timestamp: int  # 32 bits, 90 kHz
    marker: bool
    codec: str  # "H264" or "VP8"
    payload: bytes
    data: bytes  # H.264: with start codes (Annex B); empty: padding
    arrival_s: float


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One whole frame; `timestamp` counts 90 kHz from 0 without wrapping."""

    codec: str
    data: bytes
    timestamp: int
    keyframe: bool
    arrival_s: float  # of its last packet


class MarkerBuffer:
    """Hands on whole frames alone, and after a loss none before the next keyframe.

    aiortc's own completes a frame only when the next one begins, a frame's interval later, and
    stops for good at the first packet that is lost. `hand_on` is called from within `add`.
    """

    def __init__(self, hand_on: Callable[[EncodedFrame], None]) -> None:
        self._hand_on = hand_on
        self._parts: dict[int, Part] = {}  # not yet in the run: there is a gap before them
        self._run: list[Part] = []  # of one frame, without a gap, from its first packet on
        self._ssrc: int | None = None
        self._next = 0  # the sequence that the run waits for
        self._gap_since_s: float | None = None
        self._synced = False  # the run's next packet is known to begin a frame, or to continue it
        self._previous: Part | None = None  # the packet just before `_next`, if it came
        self._need_keyframe = True
        self._asked_s = 0.0
        self._unwrap = _Unwrap()
        self.lost_frames = 0  # at least; also those that came whole while a keyframe was due

    def add(self, part: Part, now_s: float) -> bool:
        """Take one packet; True: ask the sender for a keyframe now."""
        if part.ssrc != self._ssrc:
            self._restart(part, now_s)
        ahead = (part.sequence - self._next) & 0xFFFF
        if ahead >= 0x8000:
            if 0x10000 - ahead <= _RESTART:
                return self._ask(now_s)  # late: given up on, or twice
            self._restart(part, now_s)
        elif ahead >= _CAPACITY:
            self._restart(part, now_s)
        self._parts[part.sequence] = part
        self._advance()
        if not self._parts:
            self._gap_since_s = None
        elif self._gap_since_s is None:
            self._gap_since_s = now_s
        elif now_s - self._gap_since_s >= GIVE_UP_S:
            self._give_up(now_s)
        return self._ask(now_s)

    def require_keyframe(self) -> None:
        """Hand on nothing before the next keyframe. From any thread."""
        self._need_keyframe = True

    def _restart(self, part: Part, now_s: float) -> None:
        self._parts.clear()
        self._run.clear()
        self._ssrc, self._next, self._previous = part.ssrc, part.sequence, None
        self._gap_since_s = None
        self._synced = False
        self._need_keyframe = True
        self._asked_s = now_s - ASK_EVERY_S + FIRST_ASK_S

    def _advance(self) -> None:
        while (part := self._parts.pop(self._next, None)) is not None:
            self._next = (self._next + 1) & 0xFFFF
            self._gap_since_s = None
            if part.data:
                self._extend(part)

    def _extend(self, part: Part) -> None:
        previous, self._previous = self._previous, part
        follows = previous is not None and (previous.marker or previous.timestamp != part.timestamp)
        if not self._synced:
            if not follows and not _begins_frame(part):
                return
            self._synced = True
        if self._run and self._run[0].timestamp != part.timestamp:
            self._flush()  # a sender without markers
        self._run.append(part)
        if part.marker:
            self._flush()

    def _flush(self) -> None:
        run, self._run = self._run, []
        data = b"".join(part.data for part in run)
        keyframe = is_keyframe(run[0].codec, data)
        timestamp = self._unwrap(run[0].timestamp)
        if self._need_keyframe and not keyframe:
            self.lost_frames += 1
            return
        self._need_keyframe = False
        arrival_s = max(part.arrival_s for part in run)
        self._hand_on(EncodedFrame(run[0].codec, data, timestamp, keyframe, arrival_s))

    def _give_up(self, now_s: float) -> None:
        self.lost_frames += 1
        self._run.clear()
        self._previous = None
        self._synced = False
        self._need_keyframe = True
        self._next = min(self._parts, key=lambda sequence: (sequence - self._next) & 0xFFFF)
        self._advance()
        self._gap_since_s = now_s if self._parts else None

    def _ask(self, now_s: float) -> bool:
        if not self._need_keyframe or now_s - self._asked_s < ASK_EVERY_S:
            return False
        self._asked_s = now_s
        return True


class _Unwrap:
    """32-bit timestamps as one count from 0 on; a step back is a step back, not a wrap."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._count = 0

    def __call__(self, timestamp: int) -> int:
        if self._last is not None:
            step = (timestamp - self._last) & 0xFFFFFFFF
            self._count += step - 0x1_0000_0000 if step >= 0x8000_0000 else step
        self._last = timestamp
        return self._count


def is_keyframe(codec: str, data: bytes) -> bool:
    """Whether a decoder can begin at this frame.

    VP8: the P bit of the frame tag (RFC 6386, section 9.1); H.264: an IDR slice.
    """
    if codec == "VP8":
        return not data[0] & 0x01
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        match data[at + 3] & 0x1F:
            case 5:
                return True
            case 1:
                return False  # parameter sets come before the first slice
        at = data.find(b"\x00\x00\x01", at + 3)
    return False


def _begins_frame(part: Part) -> bool:
    """Whether the packet itself shows that nothing of its frame came before it.

    VP8: the start of partition 0 (RFC 7741, section 4.2). H.264: an access unit delimiter or the
    parameter sets; not a first slice, since the parameter sets before it may be what was lost.
    """
    if part.codec == "VP8":
        return part.payload[0] & 0x17 == 0x10
    return len(part.data) > 4 and part.data[4] & 0x1F in (7, 9)
