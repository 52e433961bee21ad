"""How the packets of one frame leave: an ordinary frame's at once, a keyframe's bit by bit."""

from __future__ import annotations

from dataclasses import dataclass

STEP_S = 0.004
_PART = 0.5  # of a frame's interval: the next one's packets must not wait
_PAYLOAD_BITS = 8 * 1200
_ALWAYS = 8  # packets that any network takes at once
_ORDINARY = 2.0  # frames of the mean size


@dataclass(frozen=True, slots=True)
class Pace:
    """The first `at_once` packets together, then each `group` after `STEP_S` more."""

    at_once: int
    group: int

    def waits_before(self, packet: int) -> bool:
        """packet: its number in the frame, from 0."""
        return packet >= self.at_once and (packet - self.at_once) % self.group == 0


def pace_of(packets: int, bit_rate: int, fps: int) -> Pace | None:
    """None: all at once. packets: of this frame; bit_rate, fps: of its rendition."""
    at_once = max(_ALWAYS, int(_ORDINARY * bit_rate / fps / _PAYLOAD_BITS))
    rest = packets - at_once
    if rest <= 0:
        return None
    steps = max(int(_PART / fps / STEP_S), 1)
    return Pace(at_once, -(-rest // steps))
