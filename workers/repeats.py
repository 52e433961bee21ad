"""What may go wrong in every batch: counted each time, told once a second."""

from __future__ import annotations

import math

EVERY_S = 1.0


class Repeats:
    """One kind of trouble."""

    def __init__(self) -> None:
        self._untold = 0
        self._told_s = -math.inf

    def count(self, now_s: float, times: int = 1) -> int:
        """How often it happened since it was told last; 0: not now, keep silent."""
        self._untold += times
        if now_s - self._told_s < EVERY_S:
            return 0
        self._told_s = now_s
        untold, self._untold = self._untold, 0
        return untold
