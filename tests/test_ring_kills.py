"""The ring with real processes at full speed on 512×512 slots, and SIGKILL at random instants.

OMOKAGE_KILL_S: how long each test goes on, 5 s by default.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from ring_sides import REPORT, SIDES, start

from workers.geometry import Geometry
from workers.ring import Arena

KILL_S = float(os.environ.get("OMOKAGE_KILL_S", "5"))


@dataclass
class Tally:
    """What the sides reported through a pipe, checked as it is read."""

    report_out: int
    report_in: int
    seen: int = 0
    torn: int = 0
    backwards: int = 0
    kills: int = 0
    reclaimed: int = 0
    last: int = field(default=0, repr=False)

    def drain(self, wait_s: float = 0.0) -> bool:
        """Reads what there is; whether there was anything within `wait_s`."""
        if not select.select([self.report_out], [], [], wait_s)[0]:
            return False
        for sequence, torn in REPORT.iter_unpack(os.read(self.report_out, REPORT.size * 4096)):
            self.seen += 1
            self.torn += torn
            self.backwards += sequence <= self.last
            self.last = max(self.last, sequence)
        return True

    def watch(self, for_s: float) -> None:
        until_s = time.monotonic() + for_s
        while (left_s := until_s - time.monotonic()) > 0:
            self.drain(left_s)


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena.create(Geometry(512, 512), lanes=1) as arena:
        yield arena


@pytest.fixture
def tally() -> Iterator[Tally]:
    tally = Tally(*os.pipe())
    yield tally
    print(tally)
    os.close(tally.report_out)
    os.close(tally.report_in)


def kill(side: subprocess.Popen[bytes]) -> None:
    side.kill()
    side.wait()


def wait_for_frames(tally: Tally) -> None:
    """Until the sides that were just started are surely at work."""
    before = tally.seen
    while tally.seen < before + 5:
        assert tally.drain(10.0), "no frame in 10 s"


def check(arena: Arena, tally: Tally) -> None:
    while tally.drain():
        pass
    assert tally.kills >= 3
    assert tally.seen > 100
    assert tally.torn == 0
    assert tally.backwards == 0
    assert arena.inbox(0).reclaim().slots == ()


def test_no_frame_is_torn_or_comes_twice_when_both_sides_are_killed(
    arena: Arena, tally: Tally
) -> None:
    until_s = time.monotonic() + KILL_S
    while time.monotonic() < until_s:
        sides = [start(side, arena, tally.report_in) for side in SIDES]
        try:
            wait_for_frames(tally)
            for side in random.sample(sides, 2):
                tally.watch(random.uniform(0, 0.08))
                kill(side)
                tally.kills += 1
        finally:
            for side in sides:
                kill(side)
        tally.reclaimed += len(arena.inbox(0).reclaim().slots)
        assert arena.inbox(0).reclaim().slots == (), "a slot was lost while nobody had it"
    check(arena, tally)


@pytest.mark.parametrize(("living", "victim"), [("produce", "consume"), ("consume", "produce")])
def test_the_living_side_goes_on_at_full_speed_while_the_other_is_killed(
    arena: Arena, tally: Tally, living: str, victim: str
) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        life = pool.submit(SIDES[living], arena.inbox(0), tally.report_in, over.is_set)
        try:
            until_s = time.monotonic() + KILL_S
            while time.monotonic() < until_s:
                side = start(victim, arena, tally.report_in)
                try:
                    wait_for_frames(tally)
                    tally.watch(random.uniform(0, 0.12))
                finally:
                    kill(side)
                tally.kills += 1
                # The living side's thread claims, publishes, takes and gives back all the while.
                tally.reclaimed += len(arena.inbox(0).reclaim().slots)
        finally:
            over.set()
            while not life.done():
                tally.drain(0.05)
        life.result()
    check(arena, tally)
