"""When a stream's media were taken, by the earliest of their arrivals: a late one moves no lips."""

from __future__ import annotations

from collections import deque

WINDOW_S = 8.0  # of the stream's own time: longer than a busy machine holds a stream up
EARLY = 0.1  # the share of arrivals that count: the network and the sender were quick with them
MOST = 4096  # arrivals; Opus has 400 a second at most


class TakenTime:
    """A stream's time against the wall's, one for all who are sent it.

    RFC 3550, section 6.4.1, wants the sampling instant in a sender report. The source's is not
    known here, but what came fastest is nearest to it: who is held up, be it for seconds, only
    comes later. So sound and picture of one source are told in step, however late each is sent.
    """

    def __init__(self, hertz: int) -> None:
        self._hertz = hertz
        self._behind: deque[tuple[int, float]] = deque(maxlen=MOST)  # pts, arrival less pts
        self._lag_s: float | None = None

    def came(self, pts: int, arrival_s: float) -> None:
        """Media of this time came in."""
        self._behind.append((pts, arrival_s - pts / self._hertz))
        while pts - self._behind[0][0] > WINDOW_S * self._hertz:
            self._behind.popleft()
        self._lag_s = None

    def taken_s(self, pts: int) -> float | None:
        """CLOCK_MONOTONIC at which media of this time were taken, and some constant; None: nothing
        has come yet."""
        if not self._behind:
            return None
        if self._lag_s is None:
            ranked = sorted(behind_s for _, behind_s in self._behind)
            self._lag_s = ranked[int(EARLY * len(ranked))]
        return pts / self._hertz + self._lag_s


class SteadyTime:
    """How far what one receiver is told by aiortc's sender reports is off.

    They pair the last packet's time with the instant at which it was sent.
    """

    def __init__(self, taken: TakenTime) -> None:
        self._taken = taken
        self._pts = 0
        self._sent_s = 0.0

    def sent(self, pts: int, now_s: float) -> None:
        """A packet of this time leaves now."""
        self._pts, self._sent_s = pts, now_s

    @property
    def correction_s(self) -> float:
        """To be added to the instant at which the last packet was sent."""
        taken_s = self._taken.taken_s(self._pts)
        return 0.0 if taken_s is None else taken_s - self._sent_s
