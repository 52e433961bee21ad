"""The worker's loop in a thread, its stream side played by the test."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeVar

import numpy as np
import pytest
import torch
from avatars import Counting

from workers import worker
from workers.channel import Channel
from workers.device import Serial
from workers.errors import DeviceError
from workers.frame import FrameRef
from workers.geometry import Geometry
from workers.identity import save_identity
from workers.messages import (
    Beat,
    CloseLane,
    Descriptor,
    Drain,
    Drained,
    Fill,
    FromWorker,
    Happened,
    IdentitySet,
    LaneClosed,
    Loaded,
    OpenLane,
    Phase,
    Ready,
    Refused,
    Report,
    SetControls,
    SetIdentity,
    WorkerSpec,
)
from workers.ring import Arena
from workers.worker import Worker, find_device

T = TypeVar("T")
SMALL = Geometry(64, 64)
SPEC = WorkerSpec(
    index=0,
    model="avatars:Invert",
    device="cpu",
    geometry=SMALL,
    batch_sizes=(2,),
    max_wait_s=0.005,
    fill=Fill.LAST,
    max_sessions=3,
    threads=1,
    compile=False,
)


@dataclass
class Stage:
    """The stream side: a channel's other end and the arena."""

    channel: Channel
    thread: threading.Thread
    codes: list[int]
    arena: Arena | None = None
    heard: list[FromWorker] = field(default_factory=list)
    sequence: int = 0

    def say(self, message: object, fd: int | None = None) -> None:
        assert self.channel.send(message, fd, timeout_s=5)

    def until(self, kind: type[T], holds: Callable[[T], bool] = lambda it: True) -> T:
        """The first message of this kind that is still to come."""
        end_s = time.monotonic() + 20
        while time.monotonic() < end_s:
            received = self.channel.receive()
            if received is None:
                time.sleep(0.002)
                continue
            message = received[0]
            self.heard.append(message)  # type: ignore[arg-type]
            if isinstance(message, kind) and holds(message):
                return message
        raise AssertionError(f"no {kind.__name__} came; heard {self.heard[-5:]}")

    def start(self) -> Ready:
        loaded = self.until(Loaded)
        self.arena = Arena.create(loaded.geometry, SPEC.max_sessions)
        for index, fd in enumerate(self.arena.fds):
            self.say(Descriptor(index), fd)
        self.say(self.arena.describe())
        return self.until(Ready)

    def put(self, value: int, lease: int = 1, lane: int = 0, pts: int = 0) -> None:
        """A camera frame of one luma value."""
        assert self.arena is not None
        self.sequence += 1
        claim = self.arena.inbox(lane).claim()
        assert claim is not None
        view = self.arena.inbox(lane).view(claim.slot)
        view[: SMALL.height] = value
        view[SMALL.height :] = 128
        self.arena.inbox(lane).publish(
            FrameRef(lane, lease, self.sequence, claim.slot, pts, Fraction(1, 30), time.monotonic())
        )

    def take(self, lane: int = 0, within_s: float = 5) -> tuple[FrameRef, np.ndarray]:
        assert self.arena is not None
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            frame = self.arena.outbox(lane).take()
            if frame is not None:
                pixels = self.arena.outbox(lane).view(frame.slot).copy()
                self.arena.outbox(lane).give_back(frame.slot)
                return frame, pixels
            time.sleep(0.001)
        raise AssertionError("no avatar frame came")


@contextmanager
def stage(spec: WorkerSpec = SPEC) -> Iterator[Stage]:
    ours, theirs = Channel.pair()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(Worker(theirs).run()))
    thread.start()
    it = Stage(ours, thread, codes)
    try:
        it.say(spec)
        yield it
    finally:
        ours.close()
        thread.join(10)
        assert not thread.is_alive(), "the worker outlived its channel"
        theirs.close()
        if it.arena is not None:
            it.arena.close()


def test_a_frame_goes_in_and_its_avatar_comes_out_under_the_same_numbers() -> None:
    with stage() as it:
        it.start()
        it.say(OpenLane(0, 1, 1))
        it.put(50, pts=77)
        frame, pixels = it.take()
        assert (frame.lane, frame.lease, frame.sequence, frame.pts) == (0, 1, 1, 77)
        # The negative of limited-range luma: 16 + 235 - 50.
        assert abs(float(pixels[: SMALL.height].mean()) - 201) <= 2
        report = it.until(Report, lambda said: said.tallies[0].emitted == 1)
        assert report.batches == {"full": 0, "everyone": 1, "timeout": 0}
        assert report.filled == 1 and report.shapes == 1
        assert report.age_ms.count == 1


def test_two_lanes_share_a_batch() -> None:
    with stage(replace(SPEC, max_wait_s=0.2)) as it:
        it.start()
        it.say(OpenLane(0, 1, 1))
        it.say(OpenLane(1, 1, 1))
        for lane in (0, 1) * 3:  # the second frame tells the rhythm
            it.sequence = 0
            it.put(60 + lane, lane=lane)
        it.take(0), it.take(1)
        report = it.until(Report)
        assert sum(report.batches.values()) < 6


def test_a_wrong_word_about_one_session_ends_nothing() -> None:
    with stage() as it:
        it.start()
        it.say(OpenLane(0, 1, 1))
        it.say(SetControls(0, 1, {"no such control": 1.0}))
        it.say(OpenLane(1, 1, 1, {"no such control": 1.0}))
        it.put(80)
        it.take()


def test_an_identity_is_set_or_refused_and_either_is_told() -> None:
    with stage(replace(SPEC, model="avatars:Tinted")) as it:
        it.start()
        it.say(OpenLane(0, 7, 1))

        def set_identity(lease: int, identity: dict[str, torch.Tensor]) -> IdentitySet:
            fd = save_identity(identity)
            it.say(SetIdentity(0, lease), fd)
            os.close(fd)
            return it.until(IdentitySet)

        white, black = torch.ones(3), torch.zeros(3)
        assert set_identity(7, {"colour": white}) == IdentitySet(0, 7)
        assert set_identity(6, {"colour": black}) == IdentitySet(0, 6, "the session has ended")
        refused = set_identity(7, {"colour": torch.zeros(4)}).refused
        assert refused is not None and "due was colour (3,)" in refused
        it.put(50, lease=7)
        assert it.take()[1][: SMALL.height].mean() == pytest.approx(235, abs=1)


def test_frames_of_a_lease_that_could_not_be_opened_are_abandoned() -> None:
    with stage() as it:
        it.start()
        it.say(OpenLane(1, 1, 1, {"no such control": 1.0}))
        it.put(80, lane=1)
        tally = it.until(Report, lambda said: 1 in said.tallies).tallies[1]
        assert (tally.arrived, tally.abandoned) == (1, 1)


def test_a_lane_that_closes_gives_its_last_count() -> None:
    with stage() as it:
        it.start()
        it.say(OpenLane(0, 1, 1))
        it.put(50)
        it.take()
        it.say(CloseLane(0, 1))
        closed = it.until(LaneClosed)
        assert (closed.lane, closed.lease, closed.tally.emitted) == (0, 1, 1)


def test_what_is_in_a_batch_stands_in_the_ledger_while_it_runs() -> None:
    with stage(replace(SPEC, model="avatars:Slow")) as it:
        it.start()
        it.say(OpenLane(0, 1, 1))
        it.put(50)
        seen = set()
        while not (taken := it.arena is not None and it.arena.outbox(0).take()):
            assert it.arena is not None
            seen |= {tally.in_flight for tally in it.arena.ledger.take().values()}
        assert 1 in seen and taken.sequence == 1


def test_a_frame_that_comes_out_as_nan_fails_alone_and_its_session_begins_anew() -> None:
    with stage(replace(SPEC, model="avatars:Stained")) as it:
        it.start()
        it.say(OpenLane(0, 1, 1))
        edges = []
        for value in (100, 100, 16, 100, 100):
            it.put(value)
            if value == 16:
                it.until(Report, lambda said: said.tallies[0].failed == 1)
                assert it.arena is not None and it.arena.outbox(0).take() is None
                continue
            _, pixels = it.take()
            marks = pixels[4 : SMALL.height : 8, SMALL.width - 2] > 125
            edges.append(sum(int(mark) << bit for bit, mark in enumerate(marks)))
        assert edges == [0, 1, 0, 1]
        tally = it.until(Report, lambda said: said.tallies[0].emitted == 4).tallies[0]
        assert (tally.batched, tally.failed, tally.in_flight) == (5, 1, 0)
        happened = [message for message in it.heard if isinstance(message, Happened)]
        assert [event.event_type for event in happened] == ["frames_unsound"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_cuda_error_ends_the_worker_at_once() -> None:
    with stage(replace(SPEC, model="avatars:Poisoned")) as it:
        it.start()
        it.say(OpenLane(0, 1, 1))
        it.put(100)
        it.take()
        it.put(16)
        it.thread.join(5)
        assert not it.thread.is_alive() and it.codes == []  # it left by the error: see main()


def test_a_device_that_hangs_silences_the_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BATCH_DEADLINE_S", 0.3)
    monkeypatch.setattr(worker, "BEAT_EVERY_S", 0.05)
    with stage() as it:
        it.start()
        it.until(Beat)
        monkeypatch.setattr(Serial, "take_published", lambda seam: False)  # nothing ever ends
        it.say(OpenLane(0, 1, 1))
        it.put(100)
        it.until(Beat, lambda beat: beat.phase is Phase.BATCH)
        time.sleep(1.0)
        it.until(Report)
        heard = len(it.heard)
        it.until(Report)  # the loop lives, and says so; its heart does not
        assert not any(isinstance(message, Beat) for message in it.heard[heard:])


def test_a_new_tenant_starts_from_the_initial_state() -> None:
    with stage(replace(SPEC, model="avatars:Counting")) as it:
        it.start()
        edges = []
        for lease in (1, 2):
            it.say(OpenLane(0, lease, it.sequence + 1))
            for _ in range(3):
                it.put(100, lease)
                _, pixels = it.take()
                marks = pixels[4 : SMALL.height : 8, SMALL.width - 2] > 125
                edges.append(sum(int(mark) << bit for bit, mark in enumerate(marks)))
            it.say(CloseLane(0, lease))
        assert edges == [0, 1, 2, 0, 1, 2]
        assert Counting.controls  # the model that was meant


def test_the_heart_names_its_phase_and_its_deadline() -> None:
    with stage() as it:
        it.start()
        it.until(Beat, lambda beat: beat.phase is Phase.SERVING and beat.deadline_s >= 5)
        phases = {beat.phase for beat in it.heard if isinstance(beat, Beat)}
        assert {Phase.LOADING, Phase.WARMING, Phase.SERVING} <= phases


def test_a_drain_ends_with_the_last_word_and_exit_code_0() -> None:
    with stage() as it:
        it.start()
        it.say(Drain())
        it.until(Drained)
        it.thread.join(5)
        assert it.codes == [0]


def test_a_worker_whose_stream_side_is_gone_leaves() -> None:
    with stage() as it:
        it.start()
        it.channel.close()
        it.thread.join(5)
        assert it.codes == [0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (replace(SPEC, model="avatars:WrongShape"), "due was"),
        (replace(SPEC, model="nonsense"), "unknown"),
        (replace(SPEC, device="cuda:7"), "pass --device cpu"),
        (replace(SPEC, batch_sizes=(8,)), "--max-sessions"),
    ],
)
def test_a_user_s_mistake_is_refused_in_one_line(spec: WorkerSpec, said: str) -> None:
    with stage(spec) as it:
        if spec.model == "avatars:WrongShape":
            loaded = it.until(Loaded)
            it.arena = Arena.create(loaded.geometry, SPEC.max_sessions)
            for index, fd in enumerate(it.arena.fds):
                it.say(Descriptor(index), fd)
            it.say(it.arena.describe())
        reason = it.until(Refused).reason
        assert said in reason and "\n" not in reason
        it.thread.join(5)
        assert it.codes == [2]


def test_a_device_that_no_one_knows_is_refused() -> None:
    with pytest.raises(DeviceError, match="pass cpu"):
        find_device("gpu")
