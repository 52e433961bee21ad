"""What a measure does, is told and finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Figures = dict[str, object]


@dataclass(frozen=True, slots=True)
class Found:
    """`kept`: whether the bar was kept; None: there is none, or what it needs is not here."""

    kept: bool | None
    says: str  # one sentence, for the table
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a measure is told."""

    on_gpu: bool
    scale: float  # of counts and seconds; 1 for a check that counts

    def times(self, full: int, least: int = 1) -> int:
        return max(int(full * self.scale), least)

    def tell(self, **figures: object) -> None:
        """What is known so far: it stays known if this process is killed."""
        print(json.dumps({"so_far": figures}), flush=True)


@dataclass(frozen=True, slots=True)
class Measure:
    run: Callable[[Ask], Found]
    without_gpu: str | None  # what it shows without one; None: it needs one


def kept(bars: Mapping[str, bool]) -> tuple[bool, str]:
    """Whether all were, and the names of those that were not."""
    missed = [name for name, is_kept in bars.items() if not is_kept]
    return not missed, "; ".join(missed)
