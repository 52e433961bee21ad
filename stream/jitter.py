"""RTP packets in any order in, whole frames in order out, each at its marker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream.missing import MOST, Missing

GIVE_UP_S = 0.1  # a gap is waited for this long: a retransmission has come by then, or never will
ASK_AFTER_S = 0.08  # a keyframe takes its time too, so it is asked for a little before that
ASK_SOON_S = 0.03  # where nothing is sent again, a gap may still be two packets that swapped
ASK_EVERY_S = 0.3
FIRST_ASK_S = 0.05  # a stream opens with its keyframe; if we missed that, soon ask for another
_HOPELESS = 3  # gaps in a row that nothing came for: whatever it says, this sender sends no more
_WINDOW = 2048  # packets behind a gap, and as far back a packet is late
_STANDSTILL_S = 1.0  # late packets alone for so long: the sender has started anew further back


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


@dataclass(frozen=True, slots=True)
class Wish:
    """What to ask the sender for, now."""

    keyframe: bool
    missing: tuple[int, ...]  # sequences, to be sent again


class MarkerBuffer:
    """Hands on whole frames alone, and after a loss none before the next keyframe.

    aiortc's own completes a frame only when the next one begins, a frame's interval later, and
    stops for good at the first packet that is lost. `hand_on` is called from within `add` and
    `wish`; call `wish` after each `add`, after `require_keyframe`, and at `due_s`.
    """

    def __init__(self, hand_on: Callable[[EncodedFrame], None], retransmits: bool = True) -> None:
        """retransmits: whether the sender is said to send lost packets again."""
        self._hand_on = hand_on
        self._retransmits = retransmits
        self._parts: dict[int, Part] = {}  # not yet in the run: there is a gap before them
        self._missing = Missing()  # between `_next` and `_highest`
        self._run: list[Part] = []  # of one frame, without a gap, from its first packet on
        self._ssrc: int | None = None
        self._next = 0  # the sequence that the run waits for
        self._highest = 0
        self._came_s = 0.0  # the last packet that was not late
        self._stray: Part | None = None  # of elsewhere; the one after it makes it a new start
        self._synced = False  # the run's next packet is known to begin a frame, or to continue it
        self._previous: Part | None = None  # the packet just before `_next`, if it came
        self._need_keyframe = True
        self._asked_s: float | None = None  # since the last whole keyframe
        self._unmended = 0  # gaps, since one was last mended
        self._unwrap = _Unwrap()
        self.lost_frames = 0  # at least; also those that came whole while a keyframe was due

    @property
    def ssrc(self) -> int | None:
        """Of the stream that is followed; None: no packet has come."""
        return self._ssrc

    @property
    def due_s(self) -> float | None:
        """When to call `wish` though no packet has come; None: not before one has."""
        since_s = self._missing.since_s(self._next)
        due_s = [
            None if since_s is None else since_s + GIVE_UP_S,
            self._ask_due_s(),
            self._missing.due_s if self._retransmits else None,
        ]
        return min((at_s for at_s in due_s if at_s is not None), default=None)

    def add(self, part: Part, now_s: float) -> None:
        """Take one packet."""
        if self._ssrc is None:
            self._restart(part, now_s)
        ahead = (part.sequence - self._next) & 0xFFFF
        if part.ssrc == self._ssrc and ahead < _WINDOW:
            self._put(part, now_s)
            return
        is_behind = part.ssrc == self._ssrc and 0x10000 - ahead <= _WINDOW
        if is_behind and now_s - self._came_s < _STANDSTILL_S:
            return  # late: given up on, or twice
        # RFC 3550, appendix A.1: only two in a row are a sender that has started anew.
        stray, self._stray = self._stray, part
        if stray is not None and _follows(stray, part):
            self._restart(stray, now_s)
            self._put(stray, now_s)
            self._put(part, now_s)

    def wish(self, now_s: float) -> Wish:
        """Give up on what has been waited for long enough; what to ask for now."""
        while (since_s := self._missing.since_s(self._next)) is not None:
            if now_s < since_s + GIVE_UP_S:
                break
            self._give_up()
        ask_s = self._ask_due_s()
        keyframe = ask_s is not None and now_s >= ask_s
        if keyframe:
            self._asked_s = now_s
        return Wish(keyframe, self._missing.take_due(now_s) if self._retransmits else ())

    def require_keyframe(self) -> None:
        """Hand on nothing before the next keyframe. From any thread."""
        self._need_keyframe = True

    def _restart(self, part: Part, now_s: float) -> None:
        self._parts.clear()
        self._missing.clear()
        self._run.clear()
        self._ssrc, self._next, self._previous = part.ssrc, part.sequence, None
        self._highest = (part.sequence - 1) & 0xFFFF
        self._synced = False
        self._need_keyframe = True
        self._asked_s = now_s - ASK_EVERY_S + FIRST_ASK_S

    def _put(self, part: Part, now_s: float) -> None:
        """A packet within the window."""
        self._stray, self._came_s = None, now_s
        further = (part.sequence - self._highest) & 0xFFFF
        if further < 0x8000:
            for back in range(1, further):
                self._missing.note((part.sequence - back) & 0xFFFF, now_s)
            self._highest = part.sequence
        if self._missing.forget(part.sequence):
            self._unmended = 0
        self._parts[part.sequence] = part
        self._advance()
        while len(self._missing) > MOST:
            self._give_up()  # more than anybody could send again
        is_behind_a_gap = part.sequence in self._parts
        if is_behind_a_gap and self._has_asked() and (first := self._keyframe_of(part)) is not None:
            self._skip(first)  # nothing before it is worth the wait

    def _advance(self) -> None:
        while (part := self._parts.pop(self._next, None)) is not None:
            self._next = (self._next + 1) & 0xFFFF
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
        if keyframe:
            self._need_keyframe, self._asked_s = False, None
        arrival_s = max(part.arrival_s for part in run)
        self._hand_on(EncodedFrame(run[0].codec, data, timestamp, keyframe, arrival_s))

    def _give_up(self) -> None:
        self._unmended += 1
        self._need_keyframe = True
        self._skip(min(self._parts, key=lambda sequence: (sequence - self._next) & 0xFFFF))

    def _skip(self, first: int) -> None:
        """Go on with this packet, though what is before it never came."""
        self.lost_frames += 1
        self._run.clear()
        self._previous = None
        self._synced = False
        while self._next != first:
            self._parts.pop(self._next, None)
            self._missing.forget(self._next)
            self._next = (self._next + 1) & 0xFFFF
        self._advance()

    def _ask_due_s(self) -> float | None:
        """When to ask for a keyframe; 0: at once; None: there is no need."""
        again_s = 0.0 if self._asked_s is None else self._asked_s + ASK_EVERY_S
        if self._need_keyframe:
            return None if self._ssrc is None else again_s
        since_s = self._missing.since_s(self._next)
        if since_s is None:
            return None
        hopes = self._retransmits and self._unmended < _HOPELESS
        return max(again_s, since_s + (ASK_AFTER_S if hopes else ASK_SOON_S))

    def _has_asked(self) -> bool:
        """Whether a keyframe is needed, or is on its way for the sake of the gap that is there."""
        since_s = self._missing.since_s(self._next)
        has_asked = self._asked_s is not None and since_s is not None and self._asked_s > since_s
        return self._need_keyframe or has_asked

    def _keyframe_of(self, part: Part) -> int | None:
        """Where the keyframe begins that this packet has made whole, behind a gap."""
        parts, first, last = self._parts, part, part
        while not _begins_frame(first):
            before = parts.get((first.sequence - 1) & 0xFFFF)
            if before is None or before.timestamp != part.timestamp:
                return None
            first = before
        while not last.marker:
            after = parts.get((last.sequence + 1) & 0xFFFF)
            if after is None or after.timestamp != part.timestamp:
                return None
            last = after
        count = ((last.sequence - first.sequence) & 0xFFFF) + 1
        data = b"".join(parts[(first.sequence + i) & 0xFFFF].data for i in range(count))
        return first.sequence if is_keyframe(part.codec, data) else None


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


def _follows(before: Part, part: Part) -> bool:
    return part.ssrc == before.ssrc and part.sequence == (before.sequence + 1) & 0xFFFF


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
    if not part.data:
        return False
    if part.codec == "VP8":
        return part.payload[0] & 0x17 == 0x10
    return len(part.data) > 4 and part.data[4] & 0x1F in (7, 9)
