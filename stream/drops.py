"""When it is worth a word that a session loses frames."""

from __future__ import annotations

from dataclasses import dataclass

from workers.messages import Tally

TELL_EVERY_S = 30.0
SHARE = 0.1  # of the frames that arrived; below, a live source's frames overtake each other


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was lost of what arrived, since the last word."""

    dropped: int
    arrived: int


class DropWatch:
    """One session's. Clock-free: `now_s` is CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self._since = Tally()
        self._told_s = float("-inf")

    def observe(self, now: Tally, now_s: float) -> Dropped | None:
        """The session's counts, once a second; a word when they are bad and none came lately."""
        if now_s - self._told_s < TELL_EVERY_S:
            return None
        found = Dropped(_dropped(now) - _dropped(self._since), now.arrived - self._since.arrived)
        self._since = now
        if found.dropped <= SHARE * found.arrived:
            return None
        self._told_s = now_s
        return found


def _dropped(tally: Tally) -> int:
    """The contract's `frames_dropped_total`."""
    return tally.overwritten + tally.late + tally.abandoned + tally.failed
