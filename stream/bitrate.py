"""How fast a codec's renditions run, and who follows the lower one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

FAR = 0.5  # below this part of the fastest viewer's allowance one is far slower
NEAR = 0.7  # from this part on it keeps up again
SLOW_S = 2.0
WELL_S = 5.0

REBUILD_APART_S = 4.0
_REBUILD_DOWN, _REBUILD_UP = 0.75, 1.5

Viewer = TypeVar("Viewer")


@dataclass(frozen=True, slots=True)
class Plan(Generic[Viewer]):
    """main, lower: bit/s. lower: None when nobody follows it."""

    main: int
    lower: int | None
    on_lower: frozenset[Viewer]


class Split(Generic[Viewer]):
    """Two groups: who keeps up with the fastest, and who is far slower and has been for a while.

    The main rendition follows the slowest of those that keep up, so never below half of what the
    fastest can take; the lower one follows the slowest of its own.
    """

    def __init__(self) -> None:
        self._lower: set[Viewer] = set()
        self._unlike_since_s: dict[Viewer, float] = {}  # unlike its group's

    def plan(self, allowed: Mapping[Viewer, int], now_s: float) -> Plan[Viewer]:
        """allowed: of each that watches, at least one; bit/s."""
        fastest = max(allowed.values())
        self._lower &= allowed.keys()
        for viewer in self._unlike_since_s.keys() - allowed.keys():
            del self._unlike_since_s[viewer]
        for viewer, bit_rate in allowed.items():
            self._place(viewer, bit_rate / fastest, now_s)
        if self._lower == allowed.keys():  # the fast ones have left
            self._lower = {it for it in self._lower if allowed[it] < FAR * fastest}
            self._unlike_since_s.clear()
        main = [it for viewer, it in allowed.items() if viewer not in self._lower]
        return Plan(
            min(it for it in main if it >= FAR * max(main)),
            min((allowed[it] for it in self._lower), default=None),
            frozenset(self._lower),
        )

    def _place(self, viewer: Viewer, part: float, now_s: float) -> None:
        is_lower = viewer in self._lower
        if part < NEAR if is_lower else part >= FAR:
            self._unlike_since_s.pop(viewer, None)
            return
        since_s = self._unlike_since_s.setdefault(viewer, now_s)
        if now_s - since_s >= (WELL_S if is_lower else SLOW_S):
            del self._unlike_since_s[viewer]
            self._lower ^= {viewer}


def rebuild_is_due(bit_rate: int, wanted: int, age_s: float) -> bool:
    """Whether an encoder that cannot follow while it runs is built anew: a keyframe, so rarely.

    age_s: how long it has run at `bit_rate`.
    """
    if age_s < REBUILD_APART_S:
        return False
    return wanted < _REBUILD_DOWN * bit_rate or wanted > _REBUILD_UP * bit_rate
