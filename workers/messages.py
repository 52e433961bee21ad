"""What the stream side and a worker say to each other: small frozen values, never pixels.

They cross a SOCK_SEQPACKET socket pair (`workers.channel`), at most one file descriptor beside
each. Both ends are ours, one started the other, so the values travel pickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from workers.geometry import Geometry


class Phase(Enum):
    """What the worker is doing; each has a deadline of its own (`Beat.deadline_s`)."""

    LOADING = "loading"
    WARMING = "warming"
    SERVING = "serving"
    BATCH = "batch"
    DRAINING = "draining"


class Fill(Enum):
    """With what a short batch is made whole."""

    LAST = "last"
    ZEROS = "zeros"


# ---------------------------------------------------------------- to the worker


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a worker needs to know at start, but for the arena it inherits."""

    index: int
    model: str
    device: str  # "cpu", "cuda", "cuda:1"; "auto" takes CUDA where it is
    geometry: Geometry | None  # None: the model's own, else the device's default
    batch_sizes: tuple[int, ...] | None  # None: the device's default
    max_wait_s: float
    fill: Fill
    max_sessions: int
    threads: int | None
    compile: bool
    tell_batches: bool = False  # say every `BatchDone`
    capture: bool = True  # on CUDA, replay a graph where the rehearsal allows it


@dataclass(frozen=True, slots=True)
class OpenLane:
    """A lane has a new tenant. The identity, if the model has one, comes beside it as a memfd
    of safetensors bytes. `next_sequence` is the sequence that the lane's next frame will have."""

    lane: int
    lease: int
    next_sequence: int
    controls: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CloseLane:
    lane: int
    lease: int


@dataclass(frozen=True, slots=True)
class SetControls:
    lane: int
    lease: int
    controls: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SetIdentity:
    """The lane's tenant gets another identity, between two batches; it comes beside this as a
    memfd. Answered by `IdentitySet`."""

    lane: int
    lease: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what is in flight, then leave with exit code 0."""


# -------------------------------------------------------------- from the worker


@dataclass(frozen=True, slots=True)
class Beat:
    """The loop is alive, in this phase, and will say so again within `deadline_s`."""

    phase: Phase
    deadline_s: float


@dataclass(frozen=True, slots=True)
class ControlRange:
    low: float
    high: float
    default: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is loaded: what it will run at. The stream side answers with the arena."""

    geometry: Geometry
    batch_sizes: tuple[int, ...]
    has_identity: bool
    controls: Mapping[str, ControlRange]
    portraits: Mapping[str, str] = field(default_factory=dict)  # paths by name, default first


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One of the arena's file descriptors travels beside this; `index` counts them from 0."""

    index: int


@dataclass(frozen=True, slots=True)
class AttachArena:
    """The arena's plan, after its `Descriptor`s: `fds` in the order in which they came."""

    geometry: Geometry
    lanes: int
    inbox_slots: int
    outbox_slots: int
    fds: tuple[int, ...]  # numbers valid in the process that holds this value


@dataclass(frozen=True, slots=True)
class Ready:
    """Warm-up at the real shape is over, and the memory baseline is taken."""

    device: str
    device_name: str
    device_uuid: str | None
    captured: bool  # a CUDA graph replays the step
    baseline_allocated_bytes: int | None
    baseline_reserved_bytes: int | None
    rss_bytes: int
    warm_up_s: float
    step_ms: float  # median of a batch at the largest size


@dataclass(frozen=True, slots=True)
class Tally:
    """A lane's frames since the worker began, cumulative.

    arrived = overwritten + late + abandoned + waiting + batched;
    batched = in_flight + failed + emitted. `unsent` counts those of the emitted that the worker
    took back from the outbox for a newer one.
    """

    arrived: int = 0
    overwritten: int = 0
    late: int = 0
    abandoned: int = 0
    waiting: int = 0
    batched: int = 0
    in_flight: int = 0
    failed: int = 0
    emitted: int = 0
    unsent: int = 0


@dataclass(frozen=True, slots=True)
class LaneClosed:
    """The last count of a lease: its lane's tally, and how many of its frames are in flight yet."""

    lane: int
    lease: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class IdentitySet:
    """The next batch has the identity of the lane's last `SetIdentity`; refused: why not, and the
    lane has the one before."""

    lane: int
    lease: int
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class BatchDone:
    """One batch, whole; memory is None without CUDA."""

    batch: int
    batch_size: int
    real: int
    closed_by: str  # full, everyone, timeout
    wait_ms: float
    copy_in_ms: float
    compute_ms: float
    copy_out_ms: float
    before_allocated_bytes: int | None
    before_reserved_bytes: int | None
    after_allocated_bytes: int | None
    after_reserved_bytes: int | None
    allocated_peak_bytes: int | None
    reserved_peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Spread:
    """count, p50, p95, p99, max over a window; None where nothing was measured."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """The worker's memory at one instant; all but `rss_bytes` are None without CUDA."""

    rss_bytes: int
    allocated_bytes: int | None = None
    allocated_peak_bytes: int | None = None
    reserved_bytes: int | None = None
    reserved_peak_bytes: int | None = None
    segments: int | None = None
    baseline_allocated_bytes: int | None = None
    baseline_reserved_bytes: int | None = None
    new_device_allocations: int | None = None  # since the baseline
    alloc_retries: int | None = None
    out_of_memory: int | None = None
    device_free_bytes: int | None = None
    device_size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Once a second: what the worker did in the window, and its counts since it began."""

    window_s: float
    tallies: Mapping[int, Tally]  # by lane
    leases: Mapping[int, int]  # the lane's lease, where it has one
    batches: Mapping[str, int]  # full, everyone, timeout: cumulative
    shapes: int
    recompilations: int
    filled: int  # fill rows, cumulative
    busy_ratio: float
    age_ms: Spread
    wait_ms: Spread
    copy_in_ms: Spread
    compute_ms: Spread
    copy_out_ms: Spread
    memory: MemoryReport


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the contract: memory_grew, out_of_memory, frames_unsound, recompiled…"""

    event_type: str
    severity: str  # info, warning, error
    message: str
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker cannot start, and a restart would not help: a user's mistake, in one line."""

    reason: str


@dataclass(frozen=True, slots=True)
class CaptureLost:
    """CUDA did not record what the rehearsal had passed. The pool is lost with it, so this
    process ends, and the next one runs without a graph."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drained:
    """The last word of a clean end."""


ToLane = OpenLane | CloseLane | SetControls | SetIdentity
ToWorker = WorkerSpec | Descriptor | AttachArena | ToLane | Drain
FromWorker = (
    Beat | Loaded | Ready | BatchDone | LaneClosed | IdentitySet | Report | Happened
    | Refused | CaptureLost | Drained
)  # fmt: skip
