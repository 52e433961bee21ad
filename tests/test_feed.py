"""Avatar frames on their way to the encoders."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from media import GEOMETRY, emit, until

from stream.card import make_card
from stream.feed import MAX_CLAIMED, AvatarFrame, Feed
from workers.ring import OUTBOX_SLOTS, Arena, Ring


@contextlib.asynccontextmanager
async def feeding(lease: int = 1) -> AsyncIterator[tuple[Feed, Ring, list[tuple[int, int]]]]:
    """A feed, its ring, and what it showed: sequence and first pixel."""
    with Arena.create(GEOMETRY, lanes=1) as arena:
        feed = Feed(arena.outbox(0), lease, make_card(GEOMETRY))
        shown: list[tuple[int, int]] = []
        feed.open()
        feed.listen(lambda frame: shown.append((frame.sequence, int(frame.array[0, 0]))))
        yield feed, arena.outbox(0), shown
        feed.close()


async def test_before_the_first_frame_there_is_the_card() -> None:
    async with feeding() as (feed, _, shown):
        assert feed.latest.sequence == 0 and feed.newest_s is None
        assert (feed.latest.array == make_card(GEOMETRY)).all()
        await until(lambda: len(shown) == 1, 1.5)
        assert shown[0][0] == 0


async def test_each_new_frame_is_shown_once_and_its_slot_stays_as_it_is() -> None:
    async with feeding() as (feed, ring, shown):
        for number in range(1, 30):
            emit(ring, 1, number, luma=number)
            await until(lambda number=number: shown[-1:] == [(number, number)])
        assert [sequence for sequence, _ in shown] == list(range(1, 30))
        assert (feed.taken, feed.unsent, feed.high_water_claimed) == (29, 0, 2)


async def test_only_the_newest_is_shown_and_the_older_are_counted() -> None:
    async with feeding() as (feed, ring, shown):
        for number in (1, 2, 3):
            emit(ring, 1, number, luma=number)
        await until(lambda: shown != [])
        assert shown == [(3, 3)]
        assert (feed.taken, feed.unsent) == (1, 2)


async def test_the_last_frame_is_repeated_each_second_while_there_is_no_newer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.feed.REPEAT_S", 0.1)
    async with feeding() as (_, ring, shown):
        emit(ring, 1, 1, luma=7)
        await asyncio.sleep(0.35)
        assert shown == [(1, 7)] * 4
        emit(ring, 1, 2, luma=8)
        await until(lambda: shown[-1] == (2, 8))
        await asyncio.sleep(0.05)
        assert shown[-1] == (2, 8) and shown.count((2, 8)) == 1


async def test_a_frame_of_another_lease_is_never_shown() -> None:
    async with feeding(lease=2) as (feed, ring, shown):
        for lease in (1, 3, 2, 1):
            emit(ring, lease, lease, luma=lease)
        await until(lambda: feed.of_another_lease == 3)
        assert (shown, feed.taken, feed.unsent) == ([], 0, 1)
        emit(ring, 2, 9, luma=99)
        await until(lambda: shown == [(9, 99)])


async def test_a_frame_that_somebody_retains_keeps_its_pixels() -> None:
    async with feeding() as (feed, ring, shown):
        emit(ring, 1, 1, luma=11)
        await until(lambda: shown == [(1, 11)])
        kept = feed.latest.retain()
        for number in range(2, 12):
            emit(ring, 1, number, luma=200)
            await until(lambda number=number: shown[-1][0] == number)
        assert (kept.array == 11).all()
        kept.release()


async def test_never_more_than_three_slots_are_claimed_and_it_goes_on_when_one_is_back() -> None:
    async with feeding() as (feed, ring, shown):
        held: list[AvatarFrame] = []
        for number in range(1, 8):
            emit(ring, 1, number, luma=number)
            await asyncio.sleep(0.02)
            if len(held) < number and feed.latest.sequence == number:
                held.append(feed.latest.retain())
        assert feed.high_water_claimed == MAX_CLAIMED
        assert feed.latest.sequence == 3
        held[0].release()
        await until(lambda: shown[-1][0] == 7)
        for frame in held[1:]:
            frame.release()


async def test_after_close_every_slot_is_back_also_those_released_later() -> None:
    with Arena.create(GEOMETRY, lanes=1) as arena:
        ring = arena.outbox(0)
        feed = Feed(ring, 1, make_card(GEOMETRY))
        feed.open()
        emit(ring, 1, 1, luma=5)
        await until(lambda: feed.taken == 1)
        kept = feed.latest.retain()
        feed.close()
        feed.close()
        emit(ring, 1, 2, luma=6)
        await asyncio.sleep(0.02)
        assert feed.taken == 1
        kept.release()
        left = ring.take()
        assert left is not None
        ring.give_back(left.slot)
        assert [ring.claim_free() is not None for _ in range(OUTBOX_SLOTS)] == [True] * 5


async def test_who_left_hears_nothing_more() -> None:
    async with feeding() as (feed, ring, _):
        heard: list[int] = []

        def listener(frame: AvatarFrame) -> None:
            heard.append(frame.sequence)

        feed.listen(listener)
        emit(ring, 1, 1, luma=1)
        await until(lambda: heard == [1])
        feed.leave(listener)
        feed.leave(listener)
        emit(ring, 1, 2, luma=1)
        await until(lambda: feed.taken == 2)
        assert heard == [1]
