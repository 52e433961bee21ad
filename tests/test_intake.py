"""The worker's end of the lanes: what waits, and that every frame is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.frame import FrameRef
from workers.geometry import Geometry
from workers.intake import Intake
from workers.messages import Tally
from workers.ring import Arena


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(Geometry(16, 16), 2) as made:
        yield made


def publish(arena: Arena, sequence: int, lease: int = 1, lane: int = 0) -> None:
    claim = arena.inbox(lane).claim()
    assert claim is not None
    arena.inbox(lane).publish(
        FrameRef(lane, lease, sequence, claim.slot, sequence, Fraction(1, 30), float(sequence))
    )


def check_laws(tally: Tally) -> None:
    assert tally.arrived == (
        tally.overwritten + tally.late + tally.abandoned + tally.waiting + tally.batched
    )
    assert tally.batched == tally.in_flight + tally.failed + tally.emitted


def test_a_newer_frame_makes_the_older_one_late(arena: Arena) -> None:
    intake = Intake(arena)
    intake.open(0, 1, 1)
    publish(arena, 1)
    publish(arena, 2)
    assert intake.collect(0) == (1.0, 2.0)
    assert [frame.sequence for frame in intake.waiting()] == [2]
    assert intake.tallies()[0] == Tally(arrived=2, late=1, waiting=1)


def test_a_gap_in_the_numbers_is_what_the_source_took_back(arena: Arena) -> None:
    intake = Intake(arena)
    intake.open(0, 1, 1)
    publish(arena, 4)
    intake.collect(0)
    assert intake.tallies()[0] == Tally(arrived=4, overwritten=3, waiting=1)


def test_a_batched_frame_keeps_its_slot_until_it_is_done(arena: Arena) -> None:
    intake = Intake(arena)
    intake.open(0, 1, 1)
    publish(arena, 1)
    intake.collect(0)
    (frame,) = intake.waiting()
    intake.batch([frame])
    assert intake.tallies_of([frame])[0] == Tally(arrived=1, batched=1, in_flight=1)
    with pytest.raises(AssertionError):
        intake.batch([frame])
    intake.emitted(frame)
    assert intake.tallies()[0] == Tally(arrived=1, batched=1, emitted=1)
    with pytest.raises(AssertionError):
        intake.emitted(frame)  # its slot is free already


def test_what_waits_when_the_lease_ends_is_abandoned(arena: Arena) -> None:
    intake = Intake(arena)
    intake.open(0, 1, 1)
    publish(arena, 1)
    publish(arena, 2)
    tally = intake.close(0, 1)
    assert tally == Tally(arrived=2, late=1, abandoned=1)
    assert not list(intake.waiting())


def test_a_frame_of_an_old_lease_is_abandoned(arena: Arena) -> None:
    intake = Intake(arena)
    publish(arena, 1, lease=1)
    intake.open(0, 2, 2)
    publish(arena, 2, lease=2)
    assert intake.collect(0) == (2.0,)
    assert [frame.lease for frame in intake.waiting()] == [2]
    assert intake.tallies()[0].abandoned == 1


def test_a_frame_that_comes_before_the_word_that_opens_its_lease_waits_for_it(
    arena: Arena,
) -> None:
    intake = Intake(arena)
    intake.open(0, 1, 1)
    publish(arena, 1, lease=2)
    assert intake.collect(0) == ()
    assert intake.has_early()
    assert not list(intake.waiting())
    intake.open(0, 2, 1)
    assert not intake.has_early()
    assert [frame.lease for frame in intake.waiting()] == [2]


def test_a_frame_whose_lease_nobody_opens_is_given_back(arena: Arena) -> None:
    intake = Intake(arena)
    publish(arena, 1)
    intake.collect(0)
    assert intake.abandon_early() == 1
    assert not intake.has_early()
    assert intake.tallies()[0] == Tally(arrived=1, abandoned=1)


def test_closing_a_lease_that_is_not_the_present_one_changes_nothing(arena: Arena) -> None:
    intake = Intake(arena)
    intake.open(0, 2, 1)
    publish(arena, 1, lease=2)
    intake.collect(0)
    intake.close(0, 1)
    assert intake.lease(0) == 2
    assert len(list(intake.waiting())) == 1


STEPS = st.lists(
    st.sampled_from(["publish", "skip", "collect", "batch", "emit", "fail", "reopen"]), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_frame_is_accounted_for_whatever_happens(steps: list[str]) -> None:
    with Arena.create(Geometry(16, 16), 1) as arena:
        intake, lease, sequence, flying = Intake(arena), 1, 0, list[FrameRef]()
        intake.open(0, lease, 1)
        for step in steps:
            match step:
                case "publish":
                    sequence += 1
                    if arena.inbox(0).claim() is None:
                        continue
                    for slot in [*arena.inbox(0)._held]:
                        # What claim gave us is the one that neither waits nor flies.
                        known = {f.slot for f in (*intake.waiting(), *flying)}
                        if slot not in known:
                            arena.inbox(0).publish(
                                FrameRef(0, lease, sequence, slot, 0, Fraction(1, 30), 0.0)
                            )
                case "skip":
                    sequence += 1
                case "collect":
                    intake.collect(0)
                case "batch":
                    for frame in tuple(intake.waiting()):
                        if len(flying) < 2:
                            intake.batch([frame])
                            flying.append(frame)
                case "emit" if flying:
                    intake.emitted(flying.pop(0))
                case "fail" if flying:
                    intake.failed(flying.pop(0))
                case "reopen":
                    intake.close(0, lease)
                    lease += 1
                    intake.open(0, lease, sequence + 1)
            check_laws(intake.tallies()[0])
            assert intake.tallies()[0].in_flight == len(flying)
