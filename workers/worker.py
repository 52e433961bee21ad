"""The worker's loop: ring → batcher → engine → ring, one copy of the model for every session."""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import assert_never

import click
import torch

from workers.batcher import Arrivals, Policy, Run, Wait, plan
from workers.channel import Channel
from workers.engine import CaptureFailed, Done, Engine
from workers.errors import DeviceError, ModelError, OmokageError
from workers.frame import FrameRef
from workers.identity import load_identity
from workers.intake import Intake
from workers.messages import (
    AttachArena,
    BatchDone,
    Beat,
    CaptureLost,
    CloseLane,
    ControlRange,
    Descriptor,
    Drain,
    Drained,
    IdentitySet,
    LaneClosed,
    Loaded,
    OpenLane,
    Phase,
    Ready,
    Refused,
    SetControls,
    SetIdentity,
    WorkerSpec,
)
from workers.models.loader import load_model
from workers.parent import leave_with_parent
from workers.portrait import paths_of
from workers.reporter import EngineCounts, Reporter
from workers.ring import Arena
from workers.schedule import Row
from workers.terms import choose_batch_sizes, choose_geometry

log = logging.getLogger(__name__)

LOAD_DEADLINE_S = 120.0
WARM_UP_DEADLINE_S = 600.0
BATCH_DEADLINE_S = 5.0
BEAT_EVERY_S = 0.5
REPORT_EVERY_S = 1.0
START_TIMEOUT_S = 60.0


def find_device(name: str) -> torch.device:
    """`auto` is CUDA where it is. Raises DeviceError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is unknown: pass cpu, cuda or cuda:1") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise DeviceError(f"device {name!r} is not served: pass --device cpu, cuda or cuda:1")
    if not torch.cuda.is_available():
        why = "this build of torch has no CUDA" if not torch.version.cuda else "no CUDA GPU answers"
        raise DeviceError(f"device {name!r} is not there ({why}): pass --device cpu")
    if (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} is not there: this machine has {torch.cuda.device_count()}"
        )
    return device


@dataclass(slots=True)
class _Flight:
    """A batch on the device: its plan, and the outbox slot that each of its frames will fill."""

    run: Run
    slots: tuple[int, ...]
    began_s: float
    wait_s: float


class Worker:
    """One device's worker, from its first word to its last; runs in a process or in a thread."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._draining = False

    def drain(self) -> None:
        """Finish what is in flight and leave; safe to call from a signal handler."""
        self._draining = True

    def run(self) -> int:
        """The exit code: 0 after a drain or the parent's end, 2 for a user's mistake."""
        try:
            spec = self._expect(WorkerSpec)
            self._load(spec)
            with Arena.attach(self._receive_arena()) as self._arena, self._make_engine() as engine:
                self._engine = engine
                self._warm_up()
                self._serve()
            return 0
        except EOFError:
            return 0  # the stream side is gone: nobody is left to serve
        except CaptureFailed as error:
            self._channel.send(CaptureLost(str(error)), timeout_s=5.0)
            return 1
        except OmokageError as error:
            self._channel.send(Refused(str(error)), timeout_s=5.0)
            return 2

    # ------------------------------------------------------------ start

    def _load(self, spec: WorkerSpec) -> None:
        self._say(Beat(Phase.LOADING, LOAD_DEADLINE_S))
        self._spec = spec
        self._device = find_device(spec.device)
        on_cuda = self._device.type == "cuda"
        if spec.threads is not None or not on_cuda:
            torch.set_num_threads(spec.threads or 1)
        self._model = load_model(spec.model, self._device)
        self._geometry = choose_geometry(spec.geometry, self._model.geometry, on_cuda=on_cuda)
        self._batch_sizes = choose_batch_sizes(
            spec.batch_sizes,
            getattr(self._model, "batch_size", None),
            spec.max_sessions,
            on_cuda=on_cuda,
        )
        self._say(
            Loaded(
                geometry=self._geometry,
                batch_sizes=self._batch_sizes,
                has_identity=self._model.has_identity,
                controls={
                    name: ControlRange(c.low, c.high, c.default)
                    for name, c in self._model.controls.items()
                },
                portraits=paths_of(self._model),
            )
        )

    def _receive_arena(self) -> AttachArena:
        """The descriptors come one by one, since a message carries one at most."""
        fds: list[int] = []
        while True:
            message, fd = self._next()
            match message:
                case Descriptor():
                    assert fd is not None, "a Descriptor comes with its descriptor"
                    fds.append(fd)
                case AttachArena():
                    return replace(message, fds=tuple(fds))
                case _:
                    raise AssertionError(f"{message} came before the arena")

    def _make_engine(self) -> Engine:
        return Engine(
            self._model,
            geometry=self._geometry,
            batch_sizes=self._batch_sizes,
            device=self._device,
            fill=self._spec.fill,
            max_sessions=self._spec.max_sessions,
            compile=self._spec.compile,
            arena=self._arena,
            capture=None if self._spec.capture else False,
        )

    def _warm_up(self) -> None:
        def beat() -> None:
            self._say(Beat(Phase.WARMING, WARM_UP_DEADLINE_S))

        beat()
        began_s = monotonic()
        warm = self._engine.warm_up(beat)
        for warning in warm.warnings:
            log.warning("%s", warning)
        self._step_ms = warm.step_ms
        memory = self._engine.memory()
        self._say(
            Ready(
                device=str(self._device),
                device_name=warm.device_name,
                device_uuid=warm.device_uuid,
                captured=self._engine.captured,
                baseline_allocated_bytes=memory.baseline_allocated_bytes,
                baseline_reserved_bytes=memory.baseline_reserved_bytes,
                rss_bytes=memory.rss_bytes,
                warm_up_s=monotonic() - began_s,
                step_ms=warm.step_ms,
            )
        )

    # ------------------------------------------------------------- loop

    def _serve(self) -> None:
        now_s = monotonic()
        self._policy = Policy(self._batch_sizes, self._spec.max_wait_s)
        self._intake = Intake(self._arena)
        self._arrivals = Arrivals()
        self._reporter = Reporter(now_s, self._step_ms)
        self._flights: dict[int, _Flight] = {}
        self._last_pts_s: dict[int, float] = {}
        report_at_s, beat_at_s = now_s + REPORT_EVERY_S, now_s
        with self._doorbells() as bells:
            while not (self._draining and not self._flights):
                now_s = monotonic()
                if now_s >= beat_at_s:
                    self._beat()
                    beat_at_s = now_s + BEAT_EVERY_S
                if now_s >= report_at_s:
                    self._report(now_s)
                    report_at_s = now_s + REPORT_EVERY_S
                until_s = self._step(now_s)
                rest_s = min(until_s, report_at_s, beat_at_s) - monotonic()
                self._answer(bells.poll(max(rest_s, 0.0)))
        self._report(monotonic())
        self._channel.send(Drained(), timeout_s=1.0)

    def _doorbells(self) -> select.epoll:
        """Everything that can wake the loop: the channel, the inboxes, the engine."""
        bells = select.epoll()
        bells.register(self._channel.fileno(), select.EPOLLIN)
        self._lane_of: dict[int, int] = {}
        for lane in range(self._arena.lanes):
            fd = self._arena.inbox(lane).ready_fd
            self._lane_of[fd] = lane
            bells.register(fd, select.EPOLLIN)
        if self._engine.doorbell_fd is not None:
            bells.register(self._engine.doorbell_fd, select.EPOLLIN)
        return bells

    def _answer(self, rung: Sequence[tuple[int, int]]) -> None:
        for fd, _ in rung:
            if fd == self._channel.fileno():
                self._listen()
        for fd, _ in rung:
            if (lane := self._lane_of.get(fd)) is not None:
                self._collect(lane)
        if self._intake.has_early():
            # The word that opens a lease is sent before its first frame, so it is here by now.
            self._listen()
            if given := self._intake.abandon_early():
                log.error("frames came under leases that nobody opened: n=%d", given)

    def _collect(self, lane: int) -> None:
        for arrival_s in self._intake.collect(lane):
            self._arrivals.observe(lane, arrival_s)

    def _step(self, now_s: float) -> float:
        """Publishes what is finished, closes a batch if it may; until when to rest."""
        while (done := self._engine.finished()) is not None:
            self._publish(done)
        if self._draining:
            return now_s + BEAT_EVERY_S
        waiting = tuple(self._intake.waiting())
        match plan(self._policy, waiting, self._arrivals.facts(), self._engine.in_flight, now_s):
            case Wait(until_s):
                return math.inf if until_s is None else until_s
            case Run() as run:
                self._start(run, now_s)
                return now_s  # around once more: under full load, too, we beat, report and listen
            case never:
                assert_never(never)

    def _start(self, run: Run, now_s: float) -> None:
        slots = tuple(self._outbox_slot(frame) for frame in run.frames)
        rows = [
            Row(
                lane=frame.lane,
                slot_in=self._arena.inbox(frame.lane).view(frame.slot),
                slot_out=self._arena.outbox(frame.lane).view(slot),
                dt_s=self._dt_s(frame),
            )
            for frame, slot in zip(run.frames, slots, strict=True)
        ]
        self._arrivals.closed(run, tuple(self._intake.waiting()))
        self._intake.batch(run.frames)
        # Before the batch: if we die inside it, the books know what was in flight.
        self._arena.ledger.write(self._intake.tallies_of(run.frames))
        wait_s = now_s - min(frame.arrival_s for frame in run.frames)
        batch = self._engine.submit(rows, run.batch_size)
        self._flights[batch] = _Flight(run, slots, now_s, wait_s)

    def _outbox_slot(self, frame: FrameRef) -> int:
        claim = self._arena.outbox(frame.lane).claim()
        assert claim is not None, "the stream side never holds more than OUTBOX_HELD slots"
        if claim.taken_back is not None:
            self._intake.unsent(frame.lane)
        return claim.slot

    def _dt_s(self, frame: FrameRef) -> float:
        """Seconds of the source's own clock since the lane's previous batched frame."""
        now_s = float(frame.pts * frame.time_base)
        before_s = self._last_pts_s.get(frame.lane)
        self._last_pts_s[frame.lane] = now_s
        return 0.0 if before_s is None else min(max(now_s - before_s, 0.0), 1.0)

    def _publish(self, done: Done) -> None:
        flight = self._flights.pop(done.batch)
        for row, (frame, slot) in enumerate(zip(flight.run.frames, flight.slots, strict=True)):
            outbox = self._arena.outbox(frame.lane)
            has_picture = done.error is None and row not in done.unsound
            if not has_picture or self._intake.lease(frame.lane) != frame.lease:
                outbox.cancel(slot)
                self._intake.failed(frame)
            else:
                outbox.publish(replace(frame, slot=slot))
                self._intake.emitted(frame)
                self._reporter.age(monotonic() - frame.arrival_s)
        whole = BatchDone(
            batch=done.batch,
            batch_size=flight.run.batch_size,
            real=len(flight.run.frames),
            closed_by=flight.run.closed_by.value,
            wait_ms=round(flight.wait_s * 1e3, 3),
            copy_in_ms=done.copy_in_ms,
            compute_ms=done.compute_ms,
            copy_out_ms=done.copy_out_ms,
            before_allocated_bytes=done.before.allocated_bytes,
            before_reserved_bytes=done.before.reserved_bytes,
            after_allocated_bytes=done.after.allocated_bytes,
            after_reserved_bytes=done.after.reserved_bytes,
            allocated_peak_bytes=done.after.allocated_peak_bytes,
            reserved_peak_bytes=done.after.reserved_peak_bytes,
        )
        self._reporter.batch(whole)
        if self._spec.tell_batches:
            self._say(whole)
        for event in self._engine.events():
            self._say(event)

    # ------------------------------------------------------------ words

    def _listen(self) -> None:
        while (received := self._channel.receive()) is not None:
            try:
                self._obey(*received)
            except OmokageError as error:
                # One session's identity or control is wrong; nobody else's frame waits for it.
                log.error("a word was not obeyed: %s", error)

    def _obey(self, message: object, fd: int | None) -> None:
        match message:
            case OpenLane(lane, lease, next_sequence, controls):
                identity = {} if fd is None else load_identity(fd)
                self._engine.open_lane(lane, identity, controls)
                self._intake.open(lane, lease, next_sequence)
                self._last_pts_s.pop(lane, None)
                self._arrivals.forget(lane)
            case CloseLane(lane, lease):
                tally = self._intake.close(lane, lease)
                self._arena.ledger.write({lane: tally})
                self._engine.close_lane(lane)
                self._arrivals.forget(lane)
                self._say(LaneClosed(lane, lease, tally))
            case SetControls(lane, lease, controls):
                if self._intake.lease(lane) == lease:
                    self._engine.set_controls(lane, controls)
            case SetIdentity(lane, lease):
                assert fd is not None, "an identity comes beside its message"
                self._say(IdentitySet(lane, lease, self._set_identity(lane, lease, fd)))
            case Drain():
                self._draining = True
            case _:
                raise AssertionError(f"{message} is no word for a serving worker")

    def _set_identity(self, lane: int, lease: int, fd: int) -> str | None:
        """Why it was refused; None: the next batch has it."""
        try:
            identity = load_identity(fd)
            if self._intake.lease(lane) != lease:
                return "the session has ended"
            self._engine.set_identity(lane, identity)
        except ModelError as error:
            return str(error)
        return None

    def _beat(self) -> None:
        phase = Phase.BATCH if self._flights else Phase.SERVING
        if self._draining:
            phase = Phase.DRAINING
        deadline_s = max(BATCH_DEADLINE_S, 20 * self._reporter.step_s())
        oldest = next(iter(self._flights.values()), None)
        if oldest is not None and monotonic() - oldest.began_s > deadline_s:
            return  # a device that hangs leaves this loop alive: silence ends us
        self._say(Beat(phase, deadline_s))

    def _report(self, now_s: float) -> None:
        counts = EngineCounts(self._engine.shapes, self._engine.recompilations, self._engine.filled)
        tallies = self._intake.tallies()
        self._arena.ledger.write(tallies)
        self._say(
            self._reporter.report(
                now_s,
                tallies,
                self._intake.leases(),
                counts,
                self._engine.memory(),
            )
        )
        for event in self._engine.events():
            self._say(event)

    def _say(self, message: object) -> None:
        """Never waits: counts are cumulative, so a report that finds no room is no loss."""
        if not self._channel.send(message) and not isinstance(message, Beat):
            log.warning("the stream side does not listen: lost=%s", type(message).__name__)

    def _expect(self, kind: type[WorkerSpec]) -> WorkerSpec:
        message, _ = self._next()
        assert isinstance(message, kind), f"{message} came instead of {kind.__name__}"
        return message

    def _next(self) -> tuple[object, int | None]:
        while (received := self._channel.receive()) is None:
            bell = select.poll()
            bell.register(self._channel.fileno(), select.POLLIN)
            if not bell.poll(START_TIMEOUT_S * 1e3):
                raise EOFError("the stream side never spoke")
        return received


@click.command()
@click.option("--socket", "socket_fd", type=int, required=True, help="The channel's descriptor.")
@click.option("--alive", "alive_fd", type=int, required=True, help="The parent's pipe.")
def main(socket_fd: int, alive_fd: int) -> None:
    """A worker; `omokage serve` starts it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    leave_with_parent(alive_fd)
    worker = Worker(Channel.from_fd(socket_fd))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's to answer; it then drains us
    signal.signal(signal.SIGTERM, lambda *_: worker.drain())
    try:
        code = worker.run()
    except Exception:  # our owner is the supervisor, and it starts a clean process
        log.exception("the worker failed")
        code = 1
    except SystemExit as error:
        log.error("the model called sys.exit(%s)", error.code)
        code = 1
    sys.stderr.flush()
    os._exit(code)  # no interpreter teardown: a CUDA context that hangs must not keep us


if __name__ == "__main__":
    main()
