"""The bound that `omokage check` names, against the batcher's own policy in simulated time."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import pytest

from stream.check.bound import FPS, is_too_long, sessions
from workers.batcher import Arrivals, Policy, Run, Wait, plan
from workers.frame import FrameRef

MAX_WAIT_S = 0.008
SECONDS = 6.0


def loss(lanes: int, batch: int, batch_s: float, jitter: float = 0.0) -> float:
    """The share of frames that a newer one of their lane overtakes, of a worker that does one
    batch at a time; lanes of 25 frames/s, their phases spread."""
    random = Random(0)
    policy, arrivals = Policy((batch,), MAX_WAIT_S), Arrivals()
    phases_s = [random.uniform(0, 1 / FPS) for _ in range(lanes)]
    coming = sorted(
        (phase_s + number / FPS, lane, number)
        for lane, phase_s in enumerate(phases_s)
        for number in range(int(SECONDS * FPS))
    )
    waiting: dict[int, FrameRef] = {}
    now_s, lost, position = 0.0, 0, 0
    while True:
        while position < len(coming) and coming[position][0] <= now_s:
            arrival_s, lane, number = coming[position]
            position += 1
            lost += lane in waiting
            waiting[lane] = FrameRef(lane, 1, number, 0, number, Fraction(1, FPS), arrival_s)
            arrivals.observe(lane, arrival_s)
        next_s = coming[position][0] if position < len(coming) else math.inf
        match plan(policy, tuple(waiting.values()), arrivals.facts(), 0, now_s):
            case Run() as run:
                arrivals.closed(run, tuple(waiting.values()))
                for frame in run.frames:
                    del waiting[frame.lane]
                now_s += batch_s * random.uniform(1 - jitter, 1 + jitter)
            case Wait(until_s):
                now_s = min(next_s, math.inf if until_s is None else until_s)
                if now_s == math.inf:
                    return lost / len(coming)


CASES = [
    (batch, batch_ms)
    for batch, times_ms in {
        1: (1.9, 3.3, 4.3, 6.5, 9.0),
        4: (7.0, 12.0, 19.0, 27.0, 36.0),
        16: (20.0, 27.0, 33.0, 37.0),
    }.items()
    for batch_ms in times_ms
]


@pytest.mark.parametrize(("batch", "batch_ms"), CASES)
def test_as_many_lanes_as_the_bound_says_keep_their_frames_and_many_more_do_not(
    batch: int, batch_ms: float
) -> None:
    batch_s = batch_ms / 1e3
    bound = sessions(batch / batch_s, batch)
    assert bound > 0
    assert loss(bound, batch, batch_s, jitter=0.05) < 0.01
    assert loss(math.ceil(1.3 * bound), batch, batch_s, jitter=0.05) > 0.05


@pytest.mark.parametrize("batch", [4, 16])
def test_a_batch_slower_than_a_lane_s_frames_bears_none_however_many_rows_it_has(
    batch: int,
) -> None:
    batch_s = 0.048
    assert is_too_long(batch / batch_s, batch)
    assert sessions(batch / batch_s, batch) == 0
    assert loss(2, batch, batch_s) > 0.1
