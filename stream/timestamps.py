"""The 90 kHz clock that a viewer sees, whatever clock the source has."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

WIRE_HZ = 90_000
WIRE_TIME_BASE = Fraction(1, WIRE_HZ)

_JUMP = WIRE_HZ  # source and wall time a second apart: the source's clock has jumped
_SLIP = WIRE_HZ // 10  # this far behind what went out, nudging by one tick would show as a stutter


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Where the source's clock stood when the wire's stood at `wire`."""

    pts: int
    time_base: Fraction
    wire: int

    def wire_of(self, pts: int) -> int:
        return self.wire + int((pts - self.pts) * self.time_base * WIRE_HZ)


class WireClock:
    """Source timestamps in, 90 kHz timestamps out: they always rise.

    They keep the source's own spacing. While a frame is held they advance by wall time; a source
    whose clock jumps, starts anew or changes its unit goes on from where wall time stands.
    """

    def __init__(self) -> None:
        self._anchor: _Anchor | None = None
        self._last = -1
        self._last_s: float | None = None

    def frame(self, pts: int, time_base: Fraction, now_s: float) -> int:
        """The wire timestamp of a new frame of the source."""
        due = self._due(now_s)
        anchor = self._anchor
        if anchor is None or anchor.time_base != time_base:
            anchor = _Anchor(pts, time_base, due)
        wire = anchor.wire_of(pts)
        if abs(wire - due) > _JUMP or wire < self._last - _SLIP:
            anchor = _Anchor(pts, time_base, due)
            wire = due
        self._anchor = anchor
        return self._sent(max(wire, self._last + 1), now_s)

    def hold(self, now_s: float) -> int:
        """The wire timestamp of the last frame, shown once more."""
        return self._sent(self._due(now_s), now_s)

    def latest(self) -> int:
        """What went out last."""
        return self._last

    def _due(self, now_s: float) -> int:
        if self._last_s is None:
            return 0
        return self._last + max(1, round((now_s - self._last_s) * WIRE_HZ))

    def _sent(self, wire: int, now_s: float) -> int:
        self._last, self._last_s = wire, now_s
        return wire
