"""How fast a worker is when it is never without work: ring → batcher → engine → ring."""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from time import monotonic

from stream.check.lone_worker import LoneWorker, lone_worker
from workers.messages import BatchDone, Report, WorkerSpec

LANES_A_ROW = 3  # a frame in each of two batches in flight, and one that waits
LEAST_LANES = 6
LAP_S = 0.25
LAP_BATCHES = 4
LEAST_BATCHES = 12
PATIENCE = 10  # times as long for a batch that is slow


@dataclass(frozen=True, slots=True)
class Saturated:
    """One batch size, by itself, kept full."""

    batch: int
    frames_s: float  # of the median lap
    laps: tuple[float, ...]  # frames/s of each
    batches_ms: tuple[float, ...]  # slot to slot, each
    rows: float  # frames in a batch, on average
    memory_bytes: int  # reserved on the device, else the worker's resident set
    is_captured: bool
    device_name: str

    @property
    def batch_ms(self) -> float:
        return median(self.batches_ms)


def saturate(
    spec: WorkerSpec, batch: int, seconds: float, beat: Callable[[str], None]
) -> Saturated:
    """Runs a worker of this one batch size for so long, its warm-up not counted.

    Raises ModelError, WorkerLost.
    """
    lanes = max(LANES_A_ROW * batch, LEAST_LANES)
    alone = replace(spec, batch_sizes=(batch,), max_sessions=lanes, tell_batches=True)
    with lone_worker(alone, beat) as worker:
        beat("running")
        return _Run(worker, batch).until(seconds)


class _Run:
    def __init__(self, worker: LoneWorker, batch: int) -> None:
        self._worker = worker
        self._batch = batch
        self._done: list[BatchDone] = []
        self._memory_bytes = worker.ready.rss_bytes
        self._taken = 0
        self._bells = select.epoll()
        self._bells.register(worker.channel.fileno(), select.EPOLLIN)
        self._lane_of: dict[int, int] = {}
        for lane in range(worker.arena.lanes):
            fd = worker.arena.outbox(lane).ready_fd
            self._lane_of[fd] = lane
            self._bells.register(fd, select.EPOLLIN)

    def until(self, seconds: float) -> Saturated:
        with self._bells:
            for lane in range(self._worker.arena.lanes):
                self._worker.publish(lane)
            self._lap()  # the first batches find the caches cold, and lanes in step
            self._done.clear()
            laps, began_s = [self._lap()], monotonic()
            while not self._is_enough(monotonic() - began_s, seconds):
                laps.append(self._lap())
        return Saturated(
            batch=self._batch,
            frames_s=median(laps),
            laps=tuple(laps),
            batches_ms=tuple(it.copy_in_ms + it.compute_ms + it.copy_out_ms for it in self._done),
            rows=sum(it.real for it in self._done) / max(len(self._done), 1),
            memory_bytes=self._memory_bytes,
            is_captured=self._worker.ready.captured,
            device_name=self._worker.ready.device_name,
        )

    def _is_enough(self, elapsed_s: float, seconds: float) -> bool:
        if elapsed_s >= PATIENCE * seconds:
            return True
        return elapsed_s >= seconds and len(self._done) >= LEAST_BATCHES

    def _lap(self) -> float:
        """Frames/s over the next few batches."""
        since_s, since = monotonic(), self._taken
        due = LAP_BATCHES * self._batch
        while monotonic() - since_s < LAP_S or self._taken - since < due:
            for fd, _ in self._bells.poll(1.0):
                if (lane := self._lane_of.get(fd)) is None:
                    self._listen()
                elif self._worker.take(lane) is not None:
                    self._taken += 1
                    self._worker.publish(lane)  # so each lane has one frame on its way, always
        return (self._taken - since) / (monotonic() - since_s)

    def _listen(self) -> None:
        for message in self._worker.hear():
            match message:
                case BatchDone():
                    self._done.append(message)
                case Report():
                    memory = message.memory
                    self._memory_bytes = memory.reserved_bytes or memory.rss_bytes
