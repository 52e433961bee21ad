"""What an inspection of a model tells, line by line (`workers.lines`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Inspected:
    """A model that loads and runs: what goes in, what comes out, and whether it would capture.

    A tensor is told as "(2, 3) float32"; those of a session without the batch's axis.
    """

    device: str
    device_name: str
    geometry: str
    batch_size: int | None  # the only one it takes
    parameters: int
    weight_bytes: int
    takes: str
    gives: str
    low: float  # of the values that it gave for noise
    high: float
    identity: dict[str, str]
    state: dict[str, str]
    controls: dict[str, Sequence[float]]  # low, high, default
    reads_banks: bool
    is_capturable: bool
    verdict: str
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Unfit:
    """The model cannot be inspected: why, and the mend, in one line."""

    why: str


INSPECTIONS = (Inspected, Unfit)
