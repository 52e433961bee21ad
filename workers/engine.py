"""The engine: every batch in a warmed-up shape, through buffers that were born at start."""

from __future__ import annotations

import gc
import logging
import select
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from types import TracebackType
from typing import Any, Self

import torch

from workers.answers import check_avatars, judge, pair_of
from workers.banks import Banks
from workers.colour import edge_for
from workers.device import (
    DEPTH,
    Moment,
    Queue,
    Seam,
    is_fatal,
    is_out_of_memory,
    name_of,
    seam_for,
)
from workers.errors import DeviceError, LeaseError, ModelError, OmokageError
from workers.geometry import Geometry
from workers.memory import KEPT_BATCHES, GrowthWatch, MemorySample, probe_for
from workers.messages import Fill, Happened, MemoryReport
from workers.models.api import AvatarModel, Tensors
from workers.portrait import portrait_of_nobody
from workers.repeats import Repeats
from workers.ring import Arena
from workers.schedule import Buffers, Row, Stage, send
from workers.told import told

__all__ = ["CaptureFailed", "Done", "Engine", "Row", "WarmUp"]

log = logging.getLogger(__name__)

WARM_RUNS = 3  # cuDNN tunes in the first, the allocator has its blocks after the second
SETTLE_RUNS = {"cuda": 200, "cpu": 5}  # live-like batches of each size, before the baseline
KEPT_EVENTS = 64


class CaptureFailed(DeviceError):
    """The rehearsal passed the step and CUDA did not. The pool is lost: start a new process."""


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that has ended. `error`: the model's, in one line; its slots then hold nothing.

    unsound: which rows the model answered with NaN or an infinity; their slots hold nothing to
    show, and their sessions begin anew from the initial state.
    """

    batch: int
    error: str | None
    unsound: tuple[int, ...]
    copy_in_ms: float
    compute_ms: float
    copy_out_ms: float
    before: MemorySample
    after: MemorySample
    out_of_memory: bool


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What warm-up found; `step_ms`: the median batch at the largest size, from slot to slot."""

    step_ms: float
    device_name: str
    device_uuid: str | None
    warnings: tuple[str, ...]


class Engine:
    """One model on one device, for every session. A context manager; `warm_up` comes first.

    For one thread. What no process survives (`workers.device.is_fatal`) is raised as torch
    raised it, by any method: leave then.
    """

    def __init__(
        self,
        model: AvatarModel,
        *,
        geometry: Geometry,
        batch_sizes: Sequence[int],
        device: torch.device,
        fill: Fill | None,
        max_sessions: int,
        compile: bool,
        arena: Arena | None,
        capture: bool | None = None,
        seam: Seam | None = None,
    ) -> None:
        """fill: None runs each batch as short as it is, to measure what filling prevents.

        arena: whose slots the rows name; None: slots lie anywhere, and CUDA copies by a stage.
        capture: on CUDA, replay the step from graphs; None: where the rehearsal allows it.
        seam: None: the device's own.
        Raises ModelError when the model's identity or initial state fails.
        """
        self._device = device
        self._geometry = geometry
        self._sizes = tuple(sorted(set(batch_sizes), reverse=True))
        self._fill = fill
        self._arena = arena
        self._wants_capture = capture
        self._seam = seam or seam_for(device)
        self._probe = probe_for(device)
        most = self._sizes[0]
        self._default_identity = _asked("identity", lambda: _default_identity(model, geometry))
        self._model = model.eval().to(device)
        with torch.inference_mode():
            self._banks = Banks(
                self._model,
                self._default_identity,
                _asked("initial_state", model.initial_state),
                max_sessions=max_sessions,
                most=most,
                device=device,
                host_tensor=None if self._seam.in_order else self._seam.host_tensor,
            )
            self._edge = edge_for(device, geometry, most)
            self._buffers = Buffers.born(geometry, most, device, self._seam)
        # Any: what a foreign model answers is checked, not trusted.
        self._call: Callable[..., Any] = (
            torch.compile(self._model, mode="default", dynamic=False) if compile else self._model
        )
        self._stage: Stage | None = None
        self._judges = False
        self._open: set[int] = set()
        self._submitted = 0
        self._flights: deque[_Flight] = deque()
        self._shapes: set[tuple[int, ...]] = set()
        self._graphs_at_start: int | None = None
        self._recompilations_told = 0
        self._failed, self._starved, self._unsound = Repeats(), Repeats(), Repeats()
        self._baseline: MemorySample | None = None
        self._watch: GrowthWatch | None = None
        self._events: deque[Happened] = deque(maxlen=KEPT_EVENTS)
        self.recent: deque[tuple[MemorySample, MemorySample]] = deque(maxlen=KEPT_BATCHES)
        self.filled = 0
        self.captured = False

    def __enter__(self) -> Self:
        self._seam.__enter__()
        if not self._seam.adopt(None if self._arena is None else self._arena.buffer):
            with torch.inference_mode():
                self._stage = Stage.born(self._buffers, self._seam)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._seam.__exit__(kind, error, trace)
        self._probe.close()

    # ------------------------------------------------------------------ start

    @torch.inference_mode()
    def warm_up(self, beat: Callable[[], None]) -> WarmUp:
        """Runs every size as it will run live, captures it, and takes the memory's baseline.

        beat: called after every batch. Raises ModelError when the model fails or answers
        anything but what was due, CaptureFailed when a graph cannot be recorded.
        """
        rows = self._rows_of_nobody()
        for size in self._sizes:
            for run in range(1 + WARM_RUNS):
                # The look into the answer is a wait, which the runs after it do without.
                self._judges = run == 0
                self._run_now(rows[:size], size)
                beat()
        warnings = self._capture()
        step_ms = self._settle(rows, beat)
        gc.collect()
        self._baseline = self._probe.settle()
        if self._fill is not None:  # else growth is what is being measured
            self._probe.fuse(self._baseline)
        self._watch = GrowthWatch(self._baseline)
        self._graphs_at_start = _compiled_graphs()
        self._submitted = 0  # live batches count from 1
        self.recent.clear()
        name, uuid = name_of(self._device)
        return WarmUp(step_ms, name, uuid, warnings)

    def _rows_of_nobody(self) -> list[Row]:
        """Real rows for warm-up, in memory of our own: the arena may be in use by then.

        They hold grey noise: a flat picture would hide a model that divides by a deviation.
        """
        shape = (self._geometry.rows, self._geometry.width)
        rows = []
        for lane in range(self._buffers.most):
            slots = [self._seam.host_tensor(shape, torch.uint8) for _ in range(2)]
            slots[0].random_(16, 236, generator=torch.Generator().manual_seed(lane))
            lane = lane % self._banks.scratch
            rows.append(Row(lane, slots[0].numpy(), slots[1].numpy(), dt_s=0.04))
        return rows

    def _run_now(self, rows: Sequence[Row], size: int) -> Done:
        """A batch at warm-up: whatever the model gets wrong ends the start."""
        self._send(rows, size)
        failure = self._flights[-1].failure
        if isinstance(failure, ModelError):
            raise failure
        if failure is not None:
            raise ModelError(
                f"model failed on a batch of {size}: {told(failure)}: mend its forward()"
            ) from failure
        while (done := self.finished()) is None:
            assert self.doorbell_fd is not None
            select.select([self.doorbell_fd], [], [])
        return done

    def _capture(self) -> tuple[str, ...]:
        """Warnings: why nothing is captured, where something might be."""
        if self._device.type != "cuda" or self._wants_capture is False:
            return ()
        warnings: tuple[str, ...] = ()
        if self._wants_capture is None:
            from workers.rehearsal import rehearse  # needs more than torch, and time

            verdict = rehearse(self._model, self._geometry, self._sizes[0])
            if not verdict.capturable:
                return (f"{verdict}: it runs without one, slower",)
            warnings = verdict.warnings
        try:
            self._seam.capture(self._sizes, self._step)
        except Exception as error:
            raise CaptureFailed(
                f"the model's step cannot be recorded as a CUDA graph: {_one_line(error)}"
            ) from error
        self.captured = True
        return warnings

    def _settle(self, rows: Sequence[Row], beat: Callable[[], None]) -> float:
        """Live-like batches: every size, real rows of any number, tenants that come and go."""
        random, whole_ms = Random(0), []
        for run in range(SETTLE_RUNS[self._device.type]):
            self.open_lane(0, self._default_identity, {})
            for size in self._sizes:
                done = self._run_now(
                    rows[: random.randint(1, size)] if run % 2 else rows[:size], size
                )
                if size == self._sizes[0]:
                    whole_ms.append(done.copy_in_ms + done.compute_ms + done.copy_out_ms)
                beat()
            self.close_lane(0)
        self.filled = 0
        return median(whole_ms)

    # ------------------------------------------------------------------ lanes

    @torch.inference_mode()
    def open_lane(self, lane: int, identity: Tensors, controls: Mapping[str, float]) -> None:
        """A new tenant: its identity ({}: the model's default), the initial state, its controls.

        What of the old tenant is in flight ends before it. Raises ModelError for tensors or
        controls that the model does not have; the lane is then not open.
        """
        self._open.discard(lane)
        if identity:  # it passes memory that the last one may still be read from
            self._seam.host_wait(Moment.BANKS_WRITTEN, 0)
        with self._seam.in_step():
            self._banks.open(lane, identity, controls)
        if identity:
            self._seam.record(Queue.STEP, Moment.BANKS_WRITTEN, 0)
        self._open.add(lane)

    def close_lane(self, lane: int) -> None:
        """No batch may name the lane until it is opened again."""
        self._open.discard(lane)

    @torch.inference_mode()
    def set_identity(self, lane: int, identity: Tensors) -> None:
        """Another identity for the lane's tenant, from the next batch on; its state goes on.

        Raises ModelError for tensors that the model does not have; the lane is then as before.
        """
        self._seam.host_wait(Moment.BANKS_WRITTEN, 0)
        with self._seam.in_step():
            self._banks.set_identity(lane, identity)
        self._seam.record(Queue.STEP, Moment.BANKS_WRITTEN, 0)

    @torch.inference_mode()
    def set_controls(self, lane: int, controls: Mapping[str, float]) -> None:
        """From the next batch on. Raises ModelError for a control that the model does not have."""
        with self._seam.in_step():
            self._banks.set_controls(lane, controls)

    # ---------------------------------------------------------------- batches

    @property
    def in_flight(self) -> int:
        """Batches that `finished` has not told of; DEPTH at most."""
        return len(self._flights)

    @property
    def doorbell_fd(self) -> int | None:
        """Readable while `finished` has something to tell; None: it has when `submit` returns."""
        return self._seam.doorbell_fd

    @torch.inference_mode()
    def submit(self, rows: Sequence[Row], batch_size: int) -> int:
        """Starts a batch of 1 to `batch_size` rows, filled up to it; its number, from 1.

        Raises LeaseError for a lane that is not open. What the model raises is told by
        `finished`, and the next batch runs.
        """
        for row in rows:
            if row.lane not in self._open:
                raise LeaseError(f"lane {row.lane} has no tenant: open it first")
        return self._send(rows, batch_size)

    def finished(self) -> Done | None:
        """The oldest batch that has ended and was not yet told of; None: there is none."""
        if not self._flights or not self._seam.take_published():
            return None
        flight = self._flights.popleft()
        if self._stage is not None and flight.failure is None:
            self._stage.unload(flight.rows, flight.buffer)
        failed = flight.failure is not None
        done = Done(
            batch=flight.batch,
            error=None if flight.failure is None else _one_line(flight.failure),
            unsound=() if failed else self._buffers.unsound(len(flight.rows), flight.buffer),
            copy_in_ms=self._elapsed_ms(flight, Moment.UP_BEGAN, Moment.UP_ENDED),
            compute_ms=self._elapsed_ms(flight, Moment.STEP_BEGAN, Moment.STEP_ENDED),
            copy_out_ms=self._elapsed_ms(flight, Moment.DOWN_BEGAN, Moment.DOWN_ENDED),
            before=flight.before,
            after=self._probe.sample(),
            out_of_memory=flight.failure is not None and is_out_of_memory(flight.failure),
        )
        self._look_at(done, flight.rows)
        return done

    def _send(self, rows: Sequence[Row], batch_size: int) -> int:
        size = len(rows) if self._fill is None else batch_size
        assert 0 < len(rows) <= size <= self._buffers.most
        assert self._fill is None or size in self._sizes, f"a batch of {size} was never warmed up"
        assert len(self._flights) < DEPTH, "take what is finished first"
        before = self._probe.sample()
        self._submitted += 1
        buffer = self._submitted % DEPTH
        self._buffers.write_tables(rows, size, self._banks.scratch, self._fill or Fill.LAST, buffer)
        failure = send(self._seam, self._buffers, self._stage, rows, size, buffer, self._step)
        if failure is not None and is_fatal(failure):
            raise failure
        self._flights.append(_Flight(self._submitted, buffer, tuple(rows), before, failure))
        self.filled += size - len(rows)
        return self._submitted

    def _step(self, size: int) -> None:
        """A batch in the fixed buffers, from I420 to I420. This is what a CUDA graph records."""
        buffers = self._buffers
        source, reads, writes = buffers.table[:, :size]
        chosen, pictures = buffers.chosen[:size], buffers.pictures[:size]
        torch.index_select(buffers.frames, 0, source, out=chosen)
        self._edge.to_rgb(chosen, pictures)
        identity, state, controls = self._banks.gather(reads)
        self._shapes.add(tuple(pictures.shape))
        rows = (reads,) if self._model.reads_banks else ()
        answer = self._call(pictures, identity, state, controls, buffers.dt_s[:size], *rows)
        avatars, new_state = pair_of(answer)
        check_avatars(avatars, pictures)
        self._banks.check_state(new_state, size)
        if self._judges:
            judge(avatars)
        self._edge.to_i420(avatars, buffers.avatars[:size])
        torch.sum(avatars, (1, 2, 3), out=buffers.sums[:size])
        self._banks.scatter(writes, new_state, buffers.sums[:size])

    # ---------------------------------------------------------------- figures

    @property
    def shapes(self) -> int:
        """The distinct shapes of frames that the model ever ran on."""
        return len(self._shapes)

    @property
    def recompilations(self) -> int:
        """Graphs that torch.compile made since warm-up."""
        return 0 if self._graphs_at_start is None else _compiled_graphs() - self._graphs_at_start

    def memory(self) -> MemoryReport:
        """Now, and the baseline."""
        return self._probe.report(self._baseline)

    def events(self) -> tuple[Happened, ...]:
        """What happened since the last call: memory_grew, out_of_memory, batches_failed,
        frames_unsound, recompiled."""
        events = tuple(self._events)
        self._events.clear()
        return events

    def _look_at(self, done: Done, rows: Sequence[Row]) -> None:
        self.recent.append((done.before, done.after))
        if done.out_of_memory:
            self._tell_of_memory(done)
        elif done.error is not None:
            self._tell_of_failure(done)
        if done.unsound:
            self._tell_of_unsound(done, rows)
        if self._watch is not None and (grown := self._watch.observe(done.after)):
            self._events.append(grown)
        if (compiled := self.recompilations) > self._recompilations_told:
            self._recompilations_told = compiled
            self._events.append(
                Happened(
                    "recompiled",
                    "warning",
                    f"torch.compile has made {compiled} graphs since warm-up",
                    {"recompilations": compiled},
                )
            )

    def _tell_of_memory(self, done: Done) -> None:
        if times := self._starved.count(done.after.taken_s):
            message = f"{times} batches ran out of memory, the last with {done.error}"
            log.error("batches out of memory: n=%d last=%d error=%s", times, done.batch, done.error)
            self._events.append(Happened("out_of_memory", "error", message, {"batches": times}))

    def _tell_of_failure(self, done: Done) -> None:
        if times := self._failed.count(done.after.taken_s):
            message = f"{times} batches failed, the last with {done.error}"
            log.error("batches failed: n=%d last=%d error=%s", times, done.batch, done.error)
            self._events.append(Happened("batches_failed", "error", message, {"batches": times}))

    def _tell_of_unsound(self, done: Done, rows: Sequence[Row]) -> None:
        if times := self._unsound.count(done.after.taken_s, len(done.unsound)):
            lane = rows[done.unsound[-1]].lane
            message = (
                f"{times} frames came out as NaN or infinite, the last in lane {lane}: "
                "not shown, and each begins anew from its initial state"
            )
            log.error("frames unsound: n=%d last_lane=%d batch=%d", times, lane, done.batch)
            data = {"frames": times, "lane": lane}
            self._events.append(Happened("frames_unsound", "error", message, data))

    def _elapsed_ms(self, flight: _Flight, since: Moment, until: Moment) -> float:
        return round(self._seam.elapsed_ms(since, until, flight.buffer), 3)


@dataclass(frozen=True, slots=True)
class _Flight:
    batch: int
    buffer: int
    rows: tuple[Row, ...]
    before: MemorySample
    failure: Exception | None


def _default_identity(model: AvatarModel, geometry: Geometry) -> Tensors:
    """Of a session that brings none; it tells the banks' shapes."""
    if not model.has_identity:
        return {}
    model.cpu()  # where `identity` may count on running
    portrait = portrait_of_nobody(model, geometry)
    with torch.inference_mode():
        return {name: row.contiguous() for name, row in model.identity(portrait).items()}


def _asked(method: str, ask: Callable[[], Tensors]) -> Tensors:
    try:
        return ask()
    except Exception as error:
        raise ModelError(f"model failed in {method}: {told(error)}: mend its {method}()") from error


def _compiled_graphs() -> int:
    dynamo = sys.modules.get("torch._dynamo.utils")  # not imported unless something compiles
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


def _one_line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, OmokageError) else f"{type(error).__name__}: {first}"
