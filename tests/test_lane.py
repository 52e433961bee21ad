"""The way into a lane, its worker's side played by hand."""

import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from media import GEOMETRY, picture

from stream.lane import LaneInbox
from stream.registry import LaneNumbers
from workers.errors import SourceError
from workers.ring import INBOX_SLOTS, Arena, Ring
from workers.swscale import Fit


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Arena.create(GEOMETRY, lanes=1) as arena:
        yield arena.inbox(0)


def inbox_of(ring: Ring, numbers: LaneNumbers | None = None, lease: int = 1) -> LaneInbox:
    numbers = numbers or LaneNumbers()
    return LaneInbox(ring, lease, numbers.take_sequence, GEOMETRY, Fit.COVER)


def test_a_picture_of_any_size_lies_in_the_slot_with_its_own_time(ring: Ring) -> None:
    inbox = inbox_of(ring)
    for number, (width, height) in enumerate(((640, 480), (360, 640), (64, 48), (34, 22)), 1):
        inbox.put(picture(width, height, 100 + number, pts=number * 1500), arrival_s=number / 2)
        frame = ring.take()
        assert frame is not None
        assert (frame.lease, frame.sequence, frame.pts) == (1, number, number * 1500)
        assert (frame.time_base, frame.arrival_s) == (Fraction(1, 90_000), number / 2)
        pixels = ring.view(frame.slot)
        assert np.abs(pixels[: GEOMETRY.height].astype(int) - 100 - number).max() <= 1
        assert np.abs(pixels[GEOMETRY.height :].astype(int) - 128).max() <= 1
        ring.give_back(frame.slot)
    assert (inbox.published, inbox.overwritten, inbox.last_arrival_s) == (4, 0, 2.0)


def test_a_source_without_timestamps_is_timed_by_arrival(ring: Ring) -> None:
    inbox = inbox_of(ring)
    frame = picture(64, 48, 100)
    frame.pts = None
    inbox.put(frame, arrival_s=2.0)
    ref = ring.take()
    assert ref is not None and ref.pts * ref.time_base == 2


def test_the_newest_are_kept_and_what_gave_way_is_counted_and_seen_as_a_gap(ring: Ring) -> None:
    inbox = inbox_of(ring)
    for number in range(INBOX_SLOTS + 3):
        inbox.put(picture(64, 48, 50 + number), float(number))
    assert inbox.overwritten == 3
    first = ring.take()
    assert first is not None and first.sequence == 4


def test_a_frame_that_finds_every_slot_held_is_counted_and_uses_up_its_number(ring: Ring) -> None:
    inbox = inbox_of(ring)
    for number in range(INBOX_SLOTS):
        inbox.put(picture(64, 48, 50), float(number))
    held = [ring.take() for _ in range(INBOX_SLOTS)]
    inbox.put(picture(64, 48, 50), 9.0)
    assert (inbox.published, inbox.overwritten) == (INBOX_SLOTS, 1)
    assert held[0] is not None
    ring.give_back(held[0].slot)
    inbox.put(picture(64, 48, 50), 10.0)
    last = ring.take()
    assert last is not None and last.sequence == INBOX_SLOTS + 2


def test_numbers_go_on_over_the_tenants_of_a_lane(ring: Ring) -> None:
    numbers = LaneNumbers()
    for lease in (1, 2):
        inbox = inbox_of(ring, numbers, lease)
        inbox.put(picture(64, 48, 50), 1.0)
        inbox.close()
        ref = ring.take()
        assert ref is not None and (ref.lease, ref.sequence) == (lease, lease)


def test_after_close_nothing_is_put(ring: Ring) -> None:
    inbox = inbox_of(ring)
    inbox.close()
    inbox.put(picture(64, 48, 50), 1.0)
    assert ring.take() is None and inbox.published == 0


def test_close_waits_for_no_scaling_and_the_frame_in_work_is_not_published(ring: Ring) -> None:
    inbox = inbox_of(ring)
    scale, scaling, go_on = inbox._scaler.scale, threading.Event(), threading.Event()

    def slow(frame, slot):  # type: ignore[no-untyped-def]
        scaling.set()
        assert go_on.wait(5)
        scale(frame, slot)

    inbox._scaler.scale = slow  # type: ignore[method-assign]
    thread = threading.Thread(target=inbox.put, args=(picture(64, 48, 50), 1.0))
    thread.start()
    assert scaling.wait(5)
    began = time.monotonic()
    inbox.close()
    assert time.monotonic() - began < 0.05
    go_on.set()
    thread.join(5)
    assert ring.take() is None
    for _ in range(INBOX_SLOTS):
        assert ring.claim_free() is not None  # its slot is back


def test_a_picture_that_cannot_be_scaled_gives_its_slot_back(ring: Ring) -> None:
    inbox = inbox_of(ring)

    def refuses(frame, slot):  # type: ignore[no-untyped-def]
        raise SourceError("no such format")

    inbox._scaler.scale = refuses  # type: ignore[method-assign]
    with pytest.raises(SourceError):
        inbox.put(picture(64, 48, 50), 1.0)
    for _ in range(INBOX_SLOTS):
        assert ring.claim_free() is not None
