"""How long a session's sound waits, so that it leaves with the pictures it belongs to."""

from __future__ import annotations

import math
from statistics import median

MAX_DELAY_S = 1.0  # a voice later than this is worse than one that is early
SLEW = 0.05  # seconds a second: what a receiver's jitter buffer follows unheard
SMOOTH_S = 1.0
MOST_GAP_S = 0.1
FIRST_AGES = 5  # of them the median is where the delay begins: a first frame's age is no measure


class Delay:
    """The smoothed age of the pictures, approached slowly.

    Nothing is delayed before a few ages are known; these set it at once, and from then on it moves
    by no more than SLEW. All instants are CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        self._first: list[float] = []
        self._age_s: float | None = None
        self._seen_s = 0.0
        self._delay_s = 0.0
        self._at_s: float | None = None

    def saw(self, age_s: float, now_s: float) -> None:
        """A picture was handed over this long after its camera frame had come."""
        age_s = min(max(age_s, 0.0), MAX_DELAY_S)
        if self._age_s is None:
            self._first.append(age_s)
            if len(self._first) == FIRST_AGES:
                self._age_s = self._delay_s = median(self._first)
        else:
            # The one after a pause must not weigh more for that: it is the least like the others.
            since_s = min(max(now_s - self._seen_s, 0.0), MOST_GAP_S)
            weight = 1 - math.exp(-since_s / SMOOTH_S)
            self._age_s += weight * (age_s - self._age_s)
        self._seen_s = now_s

    def at(self, now_s: float) -> float:
        """Seconds, 0 to MAX_DELAY_S, for what comes in now."""
        if self._age_s is not None and self._at_s is not None:
            most = SLEW * max(now_s - self._at_s, 0.0)
            self._delay_s += min(max(self._age_s - self._delay_s, -most), most)
        self._at_s = now_s if self._at_s is None else max(now_s, self._at_s)
        return self._delay_s
