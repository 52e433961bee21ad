"""What the four arms found, and the figures that a sentence may stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from workers.experiment_messages import Facts, Last, Phase, Shapes, Start, Stretch

SLOWER = 1.25  # times the usual; less is noise on a machine with other work…
SLOWER_MS = 0.5  # …and so is this little of whatever is quick
NOTEWORTHY_BYTES = 2 << 20  # less is the heap's own breath
STILL_BYTES = 50_000  # less is none


@dataclass(frozen=True, slots=True)
class Arm:
    """One process's run."""

    start: Start
    last: Last
    warm_up: tuple[Stretch, ...]  # capture included
    batches: tuple[Stretch, ...]  # the last is the short one; what failed is not among them
    failure: str | None = None  # the model's, which ended the arm
    uncaptured: str | None = None
    shapes: Shapes | None = None

    @property
    def name(self) -> str:
        return f"{self.start.value} start, {self.last.value} last batch"

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return self.warm_up + self.batches

    @property
    def first(self) -> Stretch | None:
        return self.batches[0] if self.batches else None

    @property
    def closing(self) -> Stretch | None:
        """The short batch, where it came about."""
        return None if self.failure or len(self.batches) < 2 else self.batches[-1]

    @property
    def usual(self) -> tuple[Stretch, ...]:
        """The whole batches between the first and the last."""
        return self.batches[1:] if self.failure else self.batches[1:-1]

    @property
    def usual_ms(self) -> float:
        return median(it.took_ms for it in self.usual)

    def is_slow(self, stretch: Stretch) -> bool:
        """Slower than every usual batch, and by more than noise."""
        most = max(it.took_ms for it in self.usual)
        return stretch.took_ms > max(most, SLOWER * self.usual_ms, self.usual_ms + SLOWER_MS)

    @property
    def warm_up_bytes(self) -> int:
        return sum(it.grown_bytes for it in self.warm_up)

    @property
    def warm_up_ms(self) -> float:
        return sum(it.took_ms for it in self.warm_up)

    @property
    def captures(self) -> int:
        return sum(it.phase == Phase.CAPTURE.value for it in self.warm_up)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One model's: its facts and its arms, cold before warm, ragged before filled."""

    model: str
    frames: int
    batch: int
    is_compiled: bool
    facts: Facts
    arms: tuple[Arm, ...]

    @property
    def on_cuda(self) -> bool:
        return self.facts.device.startswith("cuda")

    @property
    def short(self) -> int:
        """The frames of the last batch."""
        return self.frames % self.batch

    @property
    def columns(self) -> int:
        """Batches, the short one included."""
        return self.frames // self.batch + 1

    @property
    def memory_name(self) -> str:
        return "memory reserved on the device" if self.on_cuda else "memory of the process (RSS)"

    @property
    def device_words(self) -> str:
        name = self.facts.device_name
        if self.on_cuda:
            return f"{self.facts.device} ({name})"
        threads = f"{self.facts.threads} thread{'s' if self.facts.threads > 1 else ''}"
        return f"the CPU ({name}, {threads})"

    @property
    def is_steady(self) -> bool:
        """Whether runs that differ in their last batch alone took alike for all the others."""
        pairs = [[arm.usual_ms for arm in self.of(start)] for start in Start]
        return all(max(it) <= max(SLOWER * min(it), min(it) + SLOWER_MS) for it in pairs)

    def of(self, start: Start | None = None, last: Last | None = None) -> Sequence[Arm]:
        return [arm for arm in self.arms if start in (None, arm.start) and last in (None, arm.last)]


def megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB" if abs(count) >= 9.95e6 else f"{count / 1e6:.1f} MB"


def growth(count: float) -> str:
    """In MB with its sign; as short as stands below a column."""
    return "0" if abs(count) < STILL_BYTES else f"{count / 1e6:+.1f}".replace("-", "−")


def milliseconds(ms: float) -> str:
    """Three digits, and seconds where there are many."""
    if ms >= 9_950:
        return f"{ms / 1e3:.0f} s"
    if ms >= 995:
        return f"{ms / 1e3:.1f} s"
    return f"{ms:.0f} ms" if ms >= 99.5 else f"{ms:.3g} ms"


def either(parts: Sequence[str]) -> str:
    """Each once: "a", "a and b"."""
    return " and ".join(dict.fromkeys(parts))
