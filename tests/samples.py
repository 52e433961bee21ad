"""One of each telemetry value."""

from __future__ import annotations

from datetime import UTC, datetime

from stream.contract import (
    Event,
    Info,
    Overview,
    OverviewWorker,
    Phase,
    SessionState,
    Severity,
    Spreads,
    WorkerBatch,
    WorkerDevice,
    WorkerMemory,
    WorkerSummary,
)
from stream.session import Source, State
from workers.messages import BatchDone, MemoryReport, Report, Spread, Tally

NOTHING = Spread(0, None, None, None, None)
AGE = Spread(210, 41.0, 58.2, 63.0, 71.4)
FRAMES = Tally(
    arrived=30, overwritten=2, late=3, abandoned=1, waiting=4, batched=20,
    in_flight=5, failed=1, emitted=14, unsent=2,
)  # fmt: skip
CPU = MemoryReport(rss_bytes=310_000_000)
GPU = MemoryReport(
    rss_bytes=310_000_000, allocated_bytes=184_320_000, allocated_peak_bytes=195_140_000,
    reserved_bytes=214_748_364, reserved_peak_bytes=214_748_364, segments=42,
    baseline_allocated_bytes=184_320_000, baseline_reserved_bytes=214_748_364,
    new_device_allocations=2, alloc_retries=1, out_of_memory=1,
    device_free_bytes=8_100_000_000, device_size_bytes=8_500_000_000,
)  # fmt: skip
DONE = BatchDone(9263, 8, 6, "timeout", 8.0, 0.4, 9.3, 0.5, 1, 2, 1, 2, 3, 4)

INFO = Info("0.1.0", "toon", 256, 256, (1, 4), 16, (WorkerDevice("cpu", "a CPU", None),))
OVERVIEW = Overview(Phase.SERVING, 12.34, 2, 3, (OverviewWorker(True, None, None, 0.25, 7, 58.2),))
MEMORY = WorkerMemory(0, 1.0, CPU, 41_000_000, None, None, None, None, 12.4)
SUMMARY = WorkerSummary(
    0, 1.0, 1, 7, 8, 1, 0, 9000, 200, 64, FRAMES, 12, 0.71, -0.5,
    Spreads(AGE, AGE, NOTHING, AGE, NOTHING),
)  # fmt: skip
BATCH = WorkerBatch(0, DONE)


def event(number: int = 0, text: str = "worker 0 is ready") -> Event:
    return Event("worker_ready", Severity.INFO, text, worker=0, data={"number": number})


def session(name: str, state: State, viewers: int = 0) -> SessionState:
    since = datetime(2026, 11, 24, 11, 58, 2, tzinfo=UTC)
    return SessionState(name, state, since, Source.WEBRTC, worker=0, avatar="aya", viewers=viewers)


def report(memory: MemoryReport = CPU, full: int = 5, filled: int = 3, age: Spread = AGE) -> Report:
    return Report(
        1.0, {0: FRAMES}, {0: 1}, {"full": full, "everyone": 2, "timeout": 1}, 1, 1, filled, 0.5,
        age, NOTHING, NOTHING, AGE, NOTHING, memory,
    )  # fmt: skip
