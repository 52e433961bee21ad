"""What a node says over MQTT, as frozen values: the telemetry contract 1.0.

Each value knows its topic below `omokage/1/<node>/`, how it is to be sent, and its own fields;
`envelope` adds the ones that every payload carries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import ClassVar, Protocol

from stream.session import Source, State
from workers.messages import BatchDone, MemoryReport, Spread, Tally

VERSION = "1.0"
MAJOR = 1
MESSAGE_LETTERS = 400
DATA_BYTES = 1600

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a topic is sent; `expiry_s` is MQTT 5's, None where a value stays until replaced."""

    kept: bool
    qos: int
    expiry_s: int | None = None


class Value(Protocol):
    """A payload."""

    @property
    def rule(self) -> Rule: ...

    @property
    def topic(self) -> str: ...

    def fields(self) -> Fields: ...


class Phase(Enum):
    """What a node is doing."""

    WARMING = "warming"
    SERVING = "serving"
    DRAINING = "draining"
    FAILED = "failed"


class Offline(Enum):
    """Why a node is offline."""

    STOPPED = "stopped"
    LOST = "lost"


class Severity(Enum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Status:
    """Online while `offline` is None. The will has no phase."""

    connection: int
    phase: Phase | None
    offline: Offline | None = None
    rule: ClassVar[Rule] = Rule(kept=True, qos=1)
    topic: ClassVar[str] = "status"

    def fields(self) -> Fields:
        return {
            "connection": self.connection,
            "state": "online" if self.offline is None else "offline",
            "phase": self.phase.value if self.phase else None,
            "reason": self.offline.value if self.offline else None,
        }


@dataclass(frozen=True, slots=True)
class WorkerDevice:
    device: str
    device_name: str
    device_uuid: str | None


@dataclass(frozen=True, slots=True)
class Info:
    """What runs here; `workers` by index."""

    version: str
    model: str
    width: int
    height: int
    batch_sizes: tuple[int, ...]
    sessions_limit: int
    workers: tuple[WorkerDevice, ...]
    rule: ClassVar[Rule] = Rule(kept=True, qos=1)
    topic: ClassVar[str] = "info"

    def fields(self) -> Fields:
        return {"contract": VERSION, **asdict(self)}


@dataclass(frozen=True, slots=True)
class OverviewWorker:
    ready: bool
    reserved_bytes: int | None
    new_device_allocations_total: int | None
    fill_ratio: float | None
    frames_dropped_total: int
    age_ms_p95: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    phase: Phase
    uptime_s: float
    sessions: int
    viewers: int
    workers: tuple[OverviewWorker, ...]
    rule: ClassVar[Rule] = Rule(kept=True, qos=0, expiry_s=120)
    topic: ClassVar[str] = "overview"

    def fields(self) -> Fields:
        return {**asdict(self), "phase": self.phase.value, "uptime_s": round(self.uptime_s, 1)}


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened; `data` must be JSON. What would make it over 4 KiB is cut."""

    event_type: str
    severity: Severity
    message: str
    worker: int | None = None
    session: str | None = None
    data: Mapping[str, object] = field(default_factory=dict)
    rule: ClassVar[Rule] = Rule(kept=False, qos=1)
    topic: ClassVar[str] = "event"

    def fields(self) -> Fields:
        fits = len(_json(dict(self.data))) <= DATA_BYTES
        return {
            "event_type": self.event_type,
            "severity": self.severity.value,
            "worker": self.worker,
            "session": self.session,
            "message": self.message[:MESSAGE_LETTERS],
            "data": dict(self.data) if fits else {},
        }


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """`memory` and the slopes as of now; totals over all the worker's lives."""

    worker: int
    window_s: float
    memory: MemoryReport
    node_rss_bytes: int
    new_device_allocations_total: int | None
    alloc_retries_total: int | None
    out_of_memory_total: int | None
    reserved_slope_bytes_per_min: float | None
    rss_slope_bytes_per_min: float | None
    rule: ClassVar[Rule] = Rule(kept=True, qos=0, expiry_s=60)

    @property
    def topic(self) -> str:
        return f"worker/{self.worker}/memory"

    def fields(self) -> Fields:
        memory = self.memory
        return {
            "window_s": self.window_s,
            "allocated_bytes": memory.allocated_bytes,
            "allocated_peak_bytes": memory.allocated_peak_bytes,
            "reserved_bytes": memory.reserved_bytes,
            "reserved_peak_bytes": memory.reserved_peak_bytes,
            "segments": memory.segments,
            "baseline_allocated_bytes": memory.baseline_allocated_bytes,
            "baseline_reserved_bytes": memory.baseline_reserved_bytes,
            "new_device_allocations_total": self.new_device_allocations_total,
            "alloc_retries_total": self.alloc_retries_total,
            "out_of_memory_total": self.out_of_memory_total,
            "device_free_bytes": memory.device_free_bytes,
            "device_size_bytes": memory.device_size_bytes,
            "worker_rss_bytes": memory.rss_bytes,
            "node_rss_bytes": self.node_rss_bytes,
            "reserved_slope_bytes_per_min": _whole(self.reserved_slope_bytes_per_min),
            "rss_slope_bytes_per_min": _whole(self.rss_slope_bytes_per_min),
        }


@dataclass(frozen=True, slots=True)
class Spreads:
    """What a batch's way took, over the window."""

    age_ms: Spread
    wait_ms: Spread
    copy_in_ms: Spread
    compute_ms: Spread
    copy_out_ms: Spread


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    worker: int
    window_s: float
    starts_total: int
    sessions: int
    batch_size: int  # the largest that is warmed up
    shapes: int
    recompilations_total: int
    batches_full_total: int
    batches_everyone_total: int
    batches_timeout_total: int
    frames: Tally  # over all the worker's lives; its two laws hold
    frames_filled_total: int
    busy_ratio: float
    age_slope_ms_per_min: float | None
    spreads: Spreads
    rule: ClassVar[Rule] = Rule(kept=True, qos=0, expiry_s=60)

    @property
    def topic(self) -> str:
        return f"worker/{self.worker}/summary"

    def fields(self) -> Fields:
        frames = self.frames
        return {
            "window_s": self.window_s,
            "starts_total": self.starts_total,
            "sessions": self.sessions,
            "batch_size": self.batch_size,
            "shapes": self.shapes,
            "recompilations_total": self.recompilations_total,
            "batches_full_total": self.batches_full_total,
            "batches_everyone_total": self.batches_everyone_total,
            "batches_timeout_total": self.batches_timeout_total,
            "frames_arrived_total": frames.arrived,
            "frames_overwritten_total": frames.overwritten,
            "frames_late_total": frames.late,
            "frames_abandoned_total": frames.abandoned,
            "frames_waiting": frames.waiting,
            "frames_batched_total": frames.batched,
            "frames_in_flight": frames.in_flight,
            "frames_failed_total": frames.failed,
            "frames_emitted_total": frames.emitted,
            "frames_unsent_total": frames.unsent,
            "frames_filled_total": self.frames_filled_total,
            "busy_ratio": self.busy_ratio,
            "age_slope_ms_per_min": _thousandths(self.age_slope_ms_per_min),
            **{name: asdict(spread) for name, spread in _each(self.spreads)},
        }


@dataclass(frozen=True, slots=True)
class WorkerBatch:
    """One batch; sent only with --batch-telemetry."""

    worker: int
    done: BatchDone
    rule: ClassVar[Rule] = Rule(kept=False, qos=0, expiry_s=10)

    @property
    def topic(self) -> str:
        return f"worker/{self.worker}/batch"

    def fields(self) -> Fields:
        return asdict(self.done) | {"fill": self.done.batch_size - self.done.real}


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session, by its public name; `since` is when it was admitted."""

    name: str
    state: State
    since: datetime
    source: Source
    reason: str | None = None
    worker: int | None = None
    avatar: str | None = None
    viewers: int = 0

    @property
    def rule(self) -> Rule:
        """The last word of a session is not kept."""
        return Rule(kept=not self.is_over, qos=1)

    @property
    def topic(self) -> str:
        return f"session/{self.name}"

    @property
    def is_over(self) -> bool:
        return self.state is State.ENDED

    def fields(self) -> Fields:
        return {
            "state": self.state.value,
            "reason": self.reason,
            "since": in_utc(self.since, "seconds"),
            "worker": self.worker,
            "source": self.source.value,
            "avatar": self.avatar,
            "viewers": self.viewers,
        }


def envelope(value: Value, boot_id: str, seq: int | None, at: str | None) -> bytes:
    """The payload on the wire; a will has neither `seq` nor `at`.

    Raises ValueError or TypeError for what JSON cannot say.
    """
    return _json({"boot_id": boot_id, "seq": seq, "at": at, **value.fields()})


def in_utc(instant: datetime, precision: str = "milliseconds") -> str:
    """RFC 3339, in UTC, ending in Z."""
    return instant.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _json(fields: Fields) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _each(spreads: Spreads) -> Sequence[tuple[str, Spread]]:
    return [(name, getattr(spreads, name)) for name in Spreads.__slots__]


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


def _thousandths(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
