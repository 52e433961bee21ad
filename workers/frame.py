"""A frame's metadata: all that is known of it but its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class FrameRef:
    """Which frame lies in which slot of a lane.

    `sequence` counts a lane's frames from 1, over all its leases, so that a gap tells how many
    were overwritten. `pts` is in units of `time_base` seconds, as the source gave it.
    `arrival_s` is CLOCK_MONOTONIC, the same clock in every process of a machine.
    """

    lane: int
    lease: int
    sequence: int
    slot: int
    pts: int
    time_base: Fraction
    arrival_s: float
