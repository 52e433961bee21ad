"""How often a lane's frames come, smoothed so that no stall and no burst spoils it."""

from __future__ import annotations

# A gap counts as at most twice and at least half of what was expected. A camera that froze for a
# minute thus moves the interval by an eighth, not to eight seconds, while one that really went
# from 30 to 5 frames/s is believed after 15 frames.
WEIGHT = 1 / 8
LONGEST_SURPRISE = 2.0
SHORTEST_SURPRISE = 0.5
SHORTEST_INTERVAL_S = 1 / 240  # two frames at one instant must not make an interval of nothing


class Rhythm:
    """The arrivals of one source; times are CLOCK_MONOTONIC seconds."""

    __slots__ = ("interval_s", "last_arrival_s")

    def __init__(self) -> None:
        self.last_arrival_s: float | None = None
        self.interval_s: float | None = None
        """Smoothed; None before the second frame."""

    def observe(self, arrival_s: float) -> None:
        """A frame has come."""
        if self.last_arrival_s is not None:
            smoothed_s = _smoothed(self.interval_s, arrival_s - self.last_arrival_s)
            self.interval_s = max(smoothed_s, SHORTEST_INTERVAL_S)
        self.last_arrival_s = arrival_s


def _smoothed(interval_s: float | None, gap_s: float) -> float:
    if interval_s is None:
        return gap_s
    believed_s = min(max(gap_s, SHORTEST_SURPRISE * interval_s), LONGEST_SURPRISE * interval_s)
    return interval_s + WEIGHT * (believed_s - interval_s)
