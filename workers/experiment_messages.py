"""What the memory experiment is asked, and what it tells, line by line (`workers.lines`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Start(Enum):
    """What runs before the first batch that counts."""

    COLD = "cold"  # nothing
    WARM = "warm"  # the model, at exactly the shape of a whole batch


class Last(Enum):
    """What becomes of the last batch, which has fewer frames."""

    RAGGED = "ragged"  # it runs as short as it is
    FILLED = "filled"  # copies of its last frame make it whole


@dataclass(frozen=True, slots=True)
class Terms:
    """One arm of the experiment; all of it but `start` and `last` is the same for the four."""

    model: str
    device: str
    geometry: str | None  # None: the model's own, else the device's default
    frames: int
    batch: int
    threads: int | None  # None: one on a CPU, else what torch takes
    compile: bool
    start: str
    last: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the arm runs on; told first."""

    device: str
    device_name: str
    geometry: str
    torch: str
    threads: int
    parameters: int


class Phase(Enum):
    WARM_UP = "warm-up"
    CAPTURE = "capture"  # the step is recorded as a CUDA graph
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of the model, and all that changed from before it to behind it.

    Memory is what CUDA's allocator has reserved, else the process's resident set.
    """

    phase: str
    number: int  # from 1, within its phase
    real: int  # frames
    rows: int  # that the model ran on: the frames and their fill
    took_ms: float
    before_bytes: int
    after_bytes: int
    minor_faults: int
    major_faults: int
    compiled_graphs: int  # that torch.compile made
    is_replay: bool = False  # of a CUDA graph
    device_allocations: int | None = None  # None without CUDA
    alloc_retries: int | None = None
    error: str | None = None  # the model's, in one line: nothing else here counts then

    @property
    def grown_bytes(self) -> int:
        return self.after_bytes - self.before_bytes


@dataclass(frozen=True, slots=True)
class Shapes:
    """Convolutions whose shape the process first meets there. cuDNN tunes each once; on a CPU
    oneDNN makes a kernel for each. Counted afterwards, over one more run of the model."""

    whole: int  # with a whole batch
    short: int  # with the last one as short as it is, that a whole batch does not have


@dataclass(frozen=True, slots=True)
class Uncaptured:
    """Why a warm start on CUDA has no graph."""

    why: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """The arm cannot be had: a user's mistake, or the model's, in one line."""

    why: str


Telling = Facts | Stretch | Shapes | Uncaptured | Impossible
TELLINGS = (Facts, Stretch, Shapes, Uncaptured, Impossible)
