"""When a stream's time is, by the average of its packets: a single late one moves no lips."""

from __future__ import annotations

import math

SMOOTH_S = 2.0
JUMP_S = 0.5  # no packet is this far off: the stream's clock has jumped


class SteadyTime:
    """How far a stream's wall time lies behind its own, smoothed.

    aiortc's sender report pairs the last packet's time with the instant it was sent (RFC 3550,
    section 6.4.1, wants the sampling instant), so that one packet held up by the network or a
    busy core shifts all that a receiver aligns by it. `correction_s` takes that back.
    """

    def __init__(self, hertz: int) -> None:
        self._hertz = hertz
        self._mean_s: float | None = None
        self._last_s = 0.0
        self._pts = 0
        self._count = 0

    def sent(self, pts: int, now_s: float) -> None:
        """A packet of this time leaves now."""
        behind_s = now_s - pts / self._hertz
        if self._mean_s is None or abs(behind_s - self._mean_s) > JUMP_S:
            self._mean_s, self._count = behind_s, 0
        self._count += 1
        # By its own time: a packet that was held up must not weigh more for that.
        own_s = max(pts - self._pts, 0) / self._hertz
        weight = max(1 / self._count, 1 - math.exp(-own_s / SMOOTH_S))
        self._mean_s += weight * (behind_s - self._mean_s)
        self._last_s, self._pts = behind_s, pts

    @property
    def correction_s(self) -> float:
        """To be added to the instant at which the last packet was sent."""
        return 0.0 if self._mean_s is None else self._mean_s - self._last_s
