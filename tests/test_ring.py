"""The ring's promises: newest kept, in order, no slot in two places, none lost for good."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ring_sides import frame

from workers import ring as ring_module
from workers.errors import SettingsError
from workers.frame import FrameRef
from workers.geometry import Geometry
from workers.ring import Arena, ArenaFds, Ring

SMALL = Geometry(16, 16)


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(SMALL, lanes=2, inbox_slots=4, outbox_slots=3) as arena:
        yield arena


@pytest.fixture
def ring(arena: Arena) -> Ring:
    return arena.inbox(0)


def put(ring: Ring, sequence: int) -> FrameRef | None:
    """Publishes a frame whose pixels say its number; what gave way for it."""
    claim = ring.claim()
    assert claim is not None
    ring.view(claim.slot)[:] = sequence % 256
    ring.publish(frame(claim.slot, sequence, ring.lane))
    return claim.taken_back


def get_all(ring: Ring) -> list[int]:
    """The sequences of what is ready, each checked against its pixels and given back."""
    sequences = []
    while taken := ring.take():
        assert (ring.view(taken.slot) == taken.sequence % 256).all()
        ring.give_back(taken.slot)
        sequences.append(taken.sequence)
    return sequences


# ------------------------------------------------------------------ the model


@given(st.integers(1, 8), st.integers(0, 40))
def test_a_ring_nobody_reads_is_a_deque_with_a_maxlen(slots: int, frames: int) -> None:
    with Arena.create(SMALL, lanes=1, inbox_slots=slots) as arena:
        ring, model = arena.inbox(0), deque[int](maxlen=slots)
        taken_back = 0
        for sequence in range(1, frames + 1):
            taken_back += put(ring, sequence) is not None
            model.append(sequence)
        assert get_all(ring) == list(model)
        assert taken_back == max(0, frames - slots)


class RingAgainstModel(RuleBasedStateMachine):
    """Two sides, each with its own Arena over the same descriptors, against a deque."""

    SLOTS = 4

    def __init__(self) -> None:
        super().__init__()
        self.owner = Arena.create(SMALL, lanes=1, inbox_slots=self.SLOTS)
        self.producer = self.owner.inbox(0)
        self.consumer = Arena.attach(self.owner.describe()).inbox(0)
        self.free = self.SLOTS
        self.ready: deque[int] = deque()
        self.claimed: list[int] = []
        self.taken: list[FrameRef] = []
        self.sequence = 0

    def teardown(self) -> None:
        self.owner.close()

    @rule()
    def claim(self) -> None:
        claim = self.producer.claim()
        if self.free:
            self.free -= 1
            assert claim is not None and claim.taken_back is None
        elif self.ready:
            assert claim is not None and claim.taken_back is not None
            assert claim.taken_back.sequence == self.ready.popleft()
        else:
            assert claim is None
        if claim:
            self.claimed.append(claim.slot)

    @rule()
    def claim_free(self) -> None:
        slot = self.producer.claim_free()
        assert (slot is None) == (self.free == 0), "lossless never takes back"
        if slot is not None:
            self.free -= 1
            self.claimed.append(slot)

    @precondition(lambda self: self.claimed)
    @rule()
    def publish(self) -> None:
        slot = self.claimed.pop(0)
        self.sequence += 1
        self.producer.view(slot)[:] = self.sequence % 256
        self.producer.publish(frame(slot, self.sequence))
        self.ready.append(self.sequence)

    @precondition(lambda self: self.claimed)
    @rule()
    def cancel(self) -> None:
        self.producer.cancel(self.claimed.pop())
        self.free += 1

    @rule()
    def take(self) -> None:
        taken = self.consumer.take()
        assert (taken is None) == (not self.ready)
        if taken:
            assert taken == frame(taken.slot, self.ready.popleft())
            self.taken.append(taken)

    @rule()
    def take_newest(self) -> None:
        newest, older = self.consumer.take_newest()
        assert [f.sequence for f in (*older, *([newest] if newest else []))] == list(self.ready)
        self.free += len(older)
        self.ready.clear()
        if newest:
            self.taken.append(newest)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0))
    def give_back(self, which: int) -> None:
        self.consumer.give_back(self.taken.pop(which % len(self.taken)).slot)
        self.free += 1

    @rule()
    def the_consumer_dies(self) -> None:
        lost = {taken.slot for taken in self.taken}
        self.taken.clear()
        self.consumer = Arena.attach(self.owner.describe()).inbox(0)
        reclaimed = self.producer.reclaim()
        assert set(reclaimed.slots) == lost
        assert [f.sequence for f in reclaimed.ready] == list(self.ready)
        self.free += len(lost)

    @invariant()
    def what_a_side_holds_is_left_alone(self) -> None:
        for taken in self.taken:
            assert (self.consumer.view(taken.slot) == taken.sequence % 256).all()

    @invariant()
    def every_slot_is_somewhere(self) -> None:
        assert self.free + len(self.ready) + len(self.claimed) + len(self.taken) == self.SLOTS


TestRingAgainstModel = RingAgainstModel.TestCase
TestRingAgainstModel.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


# ------------------------------------------------- one side, then the other


def test_a_token_carries_the_whole_frame(ring: Ring) -> None:
    slot = ring.claim_free()
    assert slot is not None
    sent = FrameRef(0, 2**40, 2**50, slot, -(2**60), Fraction(1001, 30000), 12345.678901234567)
    ring.publish(sent)
    assert ring.take() == sent


def test_the_newest_frame_is_taken_and_the_older_ones_are_free_again(ring: Ring) -> None:
    for sequence in (1, 2, 3, 4):
        put(ring, sequence)
    newest, older = ring.take_newest()
    assert newest and newest.sequence == 4
    assert [f.sequence for f in older] == [1, 2, 3]
    assert [ring.claim_free() is not None for _ in range(4)] == [True, True, True, False]
    assert ring.take_newest() == (None, ())


def test_the_producer_gets_nothing_while_the_consumer_holds_every_slot(ring: Ring) -> None:
    for sequence in (1, 2, 3, 4):
        put(ring, sequence)
    held = [ring.take() for _ in range(4)]
    assert ring.claim() is None
    assert held[2]
    ring.give_back(held[2].slot)
    claim = ring.claim()
    assert claim and claim.slot == held[2].slot and claim.taken_back is None


def test_a_slot_that_comes_free_between_the_producers_two_looks_is_found(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = arena.inbox(0)
    consumer = Arena.attach(arena.describe()).inbox(0)
    for sequence in (1, 2, 3, 4):
        put(producer, sequence)
    read = ring_module._read

    def read_late(fd: int, size: int) -> bytes | None:
        if fd == producer.ready_fd and size > 1:
            monkeypatch.setattr(ring_module, "_read", read)
            assert get_all(consumer) == [1, 2, 3, 4]
        return read(fd, size)

    monkeypatch.setattr(ring_module, "_read", read_late)
    claim = producer.claim()
    assert claim and claim.taken_back is None


def test_a_pipe_that_never_runs_empty_never_runs_full(ring: Ring) -> None:
    # A pipe of one page ends here after 72 frames, with two tokens in it.
    put(ring, 0)
    for sequence in range(1, 2000):
        put(ring, sequence)
        taken = ring.take()
        assert taken and taken.sequence == sequence - 1
        ring.give_back(taken.slot)


def test_the_doorbell_rings_while_a_frame_is_ready(ring: Ring) -> None:
    def rings() -> bool:
        poll = select.poll()
        poll.register(ring.ready_fd, select.POLLIN)
        return bool(poll.poll(0))

    assert not rings()
    put(ring, 1)
    assert rings()
    ring.take()
    assert not rings()


def test_a_slot_that_is_not_held_can_be_neither_published_nor_given_back(ring: Ring) -> None:
    put(ring, 1)
    taken = ring.take()
    assert taken
    ring.give_back(taken.slot)
    with pytest.raises(AssertionError, match="not held"):
        ring.give_back(taken.slot)
    with pytest.raises(AssertionError, match="not held"):
        ring.publish(taken)
    with pytest.raises(AssertionError, match="lane 1 in lane 0"):
        ring.publish(frame(0, 1, lane=1))


# --------------------------------------------------------------------- deaths


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the side runs any more."""


def produce(ring: Ring) -> None:
    for sequence in range(100, 106):
        put(ring, sequence)
    claim = ring.claim()
    assert claim
    ring.cancel(claim.slot)
    put(ring, 106)


def consume(ring: Ring) -> None:
    taken = ring.take()
    assert taken
    ring.give_back(taken.slot)
    newest, _ = ring.take_newest()
    assert newest
    ring.give_back(newest.slot)


@pytest.mark.parametrize("side", [produce, consume])
@pytest.mark.parametrize("after_the_call", [False, True])
def test_a_death_at_any_system_call_leaves_no_slot_twice_and_no_frame_out_of_order(
    side: Callable[[Ring], None], after_the_call: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between system calls nothing that the two share changes but the pixels of a held slot."""
    deaths = 0
    for dies_at in range(100):
        with Arena.create(SMALL, lanes=1, inbox_slots=4) as arena:
            living = arena.inbox(0)
            for sequence in (1, 2, 3):
                put(living, sequence)
            own = living.claim_free() if side is consume else None  # the living producer's
            dying = Arena.attach(arena.describe()).inbox(0)
            with monkeypatch.context() as patch:
                _die_at(dies_at, after_the_call, patch)
                try:
                    side(dying)
                    break
                except Killed:
                    deaths += 1
            reclaimed = living.reclaim()
            assert len(reclaimed.slots) <= 2
            assert living.reclaim().slots == (), "what was reclaimed is free now"
            sequences = get_all(living)
            assert sequences == [f.sequence for f in reclaimed.ready]
            assert sequences == sorted(set(sequences))
            assert own not in reclaimed.slots
            for _ in range(4 - (own is not None)):
                assert living.claim_free() is not None
            assert living.claim_free() is None
    assert deaths > 5


def _die_at(call: int, after_the_call: bool, patch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1000))

    def deadly(real: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            dies = next(calls) == call
            if dies and not after_the_call:
                raise Killed
            try:
                return real(*arguments)
            finally:
                if dies:
                    raise Killed

        return run

    patch.setattr(ring_module.os, "read", deadly(os.read))
    patch.setattr(ring_module.os, "write", deadly(os.write))


def test_what_the_living_side_holds_elsewhere_is_not_reclaimed(arena: Arena) -> None:
    living = Arena.attach(arena.describe()).inbox(0)
    dead = Arena.attach(arena.describe()).inbox(0)
    kept, lost = living.claim_free(), dead.claim_free()
    assert kept is not None
    assert arena.inbox(0).reclaim(held=[kept]).slots == (lost,)
    assert arena.inbox(0).reclaim(held=[kept]).slots == ()


def test_reclaiming_never_frees_what_another_thread_of_this_side_takes_meanwhile(
    ring: Ring,
) -> None:
    over = threading.Event()

    def produce_on() -> None:
        sequence = 0
        while not over.is_set():
            put(ring, sequence := sequence + 1)

    producer = threading.Thread(target=produce_on)
    producer.start()
    try:
        freed = [ring.reclaim().slots for _ in range(3000)]
    finally:
        over.set()
        producer.join()
    assert set(freed) == {()}


# ------------------------------------------------------------------ the arena


def test_no_two_slots_share_a_byte_and_all_begin_at_a_page() -> None:
    with Arena.create(Geometry(64, 50), lanes=3, inbox_slots=4, outbox_slots=2) as arena:
        rings = [r(lane) for lane in range(3) for r in (arena.inbox, arena.outbox)]
        views = [ring.view(slot) for ring in rings for slot in range(ring.slots)]
        assert len(views) == 18
        start = arena.buffer.ctypes.data
        for number, view in enumerate(views):
            assert view.shape == (75, 64) and view.flags.c_contiguous
            assert (view.ctypes.data - start) % resource.getpagesize() == 0
            view[:] = number
        assert all((view == number).all() for number, view in enumerate(views))


def test_both_ends_see_the_same_lanes(arena: Arena) -> None:
    other = Arena.attach(arena.describe())
    put(arena.inbox(1), 9)
    taken = other.inbox(1).take()
    assert taken and taken.lane == 1 and (other.inbox(1).view(taken.slot) == 9).all()
    assert other.inbox(0).take() is None
    slot = other.outbox(1).claim_free()
    assert slot is not None
    other.outbox(1).publish(frame(slot, 4, lane=1))
    back = arena.outbox(1).take()
    assert back and back.sequence == 4


def test_a_worker_can_inherit_the_arena_before_its_geometry_is_known() -> None:
    fds = ArenaFds.create(lanes=1)
    child = subprocess.Popen(
        [sys.executable, "-c", _LATE_CHILD, json.dumps(fds.fds)],
        pass_fds=fds.fds,
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
    )
    with Arena.shape(Geometry(32, 16), fds) as arena:
        child.communicate(b"32x16\n", timeout=20)
        taken = arena.outbox(0).take()
        assert taken and (arena.outbox(0).view(taken.slot) == 77).all()


_LATE_CHILD = """
import json, sys
from fractions import Fraction
from workers.frame import FrameRef
from workers.geometry import Geometry
from workers.messages import AttachArena
from workers.ring import INBOX_SLOTS, OUTBOX_SLOTS, Arena
geometry = Geometry.parse(sys.stdin.readline())
fds = tuple(json.loads(sys.argv[1]))
ring = Arena.attach(AttachArena(geometry, 1, INBOX_SLOTS, OUTBOX_SLOTS, fds)).outbox(0)
slot = ring.claim().slot
ring.view(slot)[:] = 77
ring.publish(FrameRef(0, 1, 1, slot, 0, Fraction(1, 30), 0.0))
"""


def test_the_arenas_memory_is_taken_at_start() -> None:
    with Arena.create(Geometry(512, 512), lanes=2) as arena:
        blocks = os.fstat(arena.fds[0]).st_blocks * 512
        assert blocks >= arena.buffer.nbytes == 2 * 10 * 512 * 512 * 3 // 2


def test_closing_leaves_no_descriptor_and_no_memory() -> None:
    before = _descriptors()
    arena = Arena.create(SMALL, lanes=4)
    ring = arena.inbox(0)
    slot = ring.claim_free()
    inode = os.fstat(arena.fds[0]).st_ino
    assert f" {inode} " in Path("/proc/self/maps").read_text()
    assert _descriptors() == before + 1 + 4 * 8 + 2  # the two mappings' own
    arena.close()
    arena.close()
    assert _descriptors() == before
    with pytest.raises(OSError):
        ring.publish(frame(slot or 0, 1))
    assert f" {inode} " not in Path("/proc/self/maps").read_text()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_a_side_starts_inherits_the_arena(arena: Arena) -> None:
    for fd in arena.fds:
        os.set_inheritable(fd, True)
    Arena.attach(arena.describe())
    assert not any(os.get_inheritable(fd) for fd in arena.fds)


def test_an_arena_larger_than_memory_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "available_bytes", lambda: 10**6)
    before = _descriptors()
    with pytest.raises(SettingsError, match=r"arena of 79 MB .* lower --max-sessions or --geom"):
        Arena.create(Geometry(512, 512), lanes=20)
    assert _descriptors() == before


def test_an_arena_that_the_kernel_refuses_is_refused_in_words() -> None:
    said = _under_limits("resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))", lanes=16)
    assert "16 sessions of 16x16 cannot be had (File too large): lower --max-sessions" in said


def test_the_soft_limit_of_descriptors_is_raised_where_it_must_be() -> None:
    said = _under_limits("resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2000))", lanes=16)
    assert said == "fits under 2000"


def test_too_many_sessions_for_the_hard_limit_are_refused_in_words() -> None:
    said = _under_limits("resource.setrlimit(resource.RLIMIT_NOFILE, (64, 600))", lanes=16)
    assert "16 sessions need 641 descriptors and 600 are allowed: lower --max-sessions" in said


def _under_limits(limits: str, lanes: int) -> str:
    code = f"""
import resource
from workers.errors import SettingsError
from workers.geometry import Geometry
from workers.ring import Arena
{limits}
try:
    with Arena.create(Geometry(16, 16), lanes={lanes}):
        print("fits under", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except SettingsError as error:
    print(error)
"""
    root = Path(__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True, timeout=20
    )
    return run.stdout.strip()


def test_pixels_are_uint8_and_the_arenas_own(arena: Arena) -> None:
    view = arena.inbox(1).view(2)
    assert view.dtype == np.uint8 and np.shares_memory(view, arena.buffer)
