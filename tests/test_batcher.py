"""The batching policy: rules one by one, then its promises over random worlds."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.batcher import Arrivals, Closed, LaneFacts, Policy, Run, Wait, plan
from workers.frame import FrameRef

POLICY = Policy(batch_sizes=(1, 2, 4), max_wait_s=0.008)


def frame(lane: int, arrival_s: float, sequence: int = 1) -> FrameRef:
    return FrameRef(lane, 1, sequence, 0, sequence, Fraction(1, 90_000), arrival_s)


def lane_facts(
    lane: int, last_s: float, interval_s: float | None = 0.033, passed_over: int = 0
) -> LaneFacts:
    return LaneFacts(lane, last_s, interval_s, passed_over)


# ------------------------------------------------------------------ the rules, one by one


def test_with_nothing_waiting_it_waits_until_something_happens() -> None:
    assert plan(POLICY, [], [lane_facts(0, 0.0)], 0, 1.0) == Wait(None)


def test_it_closes_nothing_while_the_device_has_no_free_buffer() -> None:
    waiting = [frame(lane, 0.0) for lane in range(4)]
    assert plan(POLICY, waiting, [], in_flight=2, now_s=9.0) == Wait(None)
    assert isinstance(plan(POLICY, waiting, [], in_flight=1, now_s=9.0), Run)


def test_as_many_lanes_as_the_batch_holds_close_it_as_full() -> None:
    waiting = [frame(lane, 1.0) for lane in range(4)]
    late_lane = lane_facts(9, 0.97)  # due within the wait, and yet not waited for
    run = plan(POLICY, waiting, [late_lane], 0, 1.0)
    assert run == Run(tuple(waiting), 4, Closed.FULL)


def test_a_lone_session_never_waits() -> None:
    run = plan(POLICY, [frame(0, 1.0)], [lane_facts(0, 1.0)], 0, 1.0)
    assert run == Run((frame(0, 1.0),), 1, Closed.EVERYONE)


def test_a_lane_that_is_due_within_the_wait_is_waited_for_until_the_deadline() -> None:
    due_at_1_005 = lane_facts(1, 0.972)
    waiting = [frame(0, 1.0)]
    assert plan(POLICY, waiting, [due_at_1_005], 0, 1.0) == Wait(1.0 + 0.008)
    run = plan(POLICY, waiting, [due_at_1_005], 0, 1.0 + 0.008)
    assert run == Run((frame(0, 1.0),), 1, Closed.TIMEOUT)


def test_a_lane_that_is_due_after_the_deadline_is_not_waited_for() -> None:
    due_at_1_010 = lane_facts(1, 0.977)
    run = plan(POLICY, [frame(0, 1.0)], [due_at_1_010], 0, 1.0)
    assert isinstance(run, Run) and run.closed_by is Closed.EVERYONE


def test_the_wait_ends_when_the_last_awaited_lane_is_overdue_by_an_interval() -> None:
    overdue_at_1_004 = lane_facts(1, 0.938)
    overdue_at_1_002 = lane_facts(2, 0.936)
    waiting = [frame(0, 1.0)]
    answer = plan(POLICY, waiting, [overdue_at_1_004, overdue_at_1_002], 0, 1.0)
    assert answer == Wait(overdue_at_1_004.overdue_s)
    assert answer.until_s == pytest.approx(1.004)
    run = plan(POLICY, waiting, [overdue_at_1_004], 0, overdue_at_1_004.overdue_s)
    assert isinstance(run, Run) and run.closed_by is Closed.EVERYONE


def test_a_lane_of_which_only_one_frame_came_is_not_waited_for() -> None:
    run = plan(POLICY, [frame(0, 1.0)], [lane_facts(1, 0.999, interval_s=None)], 0, 1.0)
    assert isinstance(run, Run) and run.closed_by is Closed.EVERYONE


def test_without_a_wait_it_closes_at_once() -> None:
    policy = replace(POLICY, max_wait_s=0.0)
    overdue_lane = lane_facts(1, 0.96)
    run = plan(policy, [frame(0, 1.0)], [overdue_lane], 0, 1.0)
    assert isinstance(run, Run) and run.closed_by is Closed.TIMEOUT


def test_a_batch_has_the_smallest_warmed_up_size_that_holds_its_frames() -> None:
    sizes = {
        count: plan(POLICY, [frame(lane, 1.0) for lane in range(count)], [], 0, 1.0)
        for count in (1, 2, 3, 4, 7)
    }
    assert {c: r.batch_size for c, r in sizes.items() if isinstance(r, Run)} == {
        1: 1,
        2: 2,
        3: 4,
        4: 4,
        7: 4,
    }


def test_a_lane_that_was_passed_over_goes_first_and_then_the_older_frame() -> None:
    policy = Policy(batch_sizes=(2,), max_wait_s=0.008)
    waiting = [frame(0, 1.0), frame(1, 1.1), frame(2, 1.2), frame(3, 1.3)]
    lanes = [lane_facts(lane, 1.0, passed_over=passed) for lane, passed in ((0, 0), (1, 0), (3, 1))]
    run = plan(policy, waiting, lanes, 0, 2.0)
    assert isinstance(run, Run)
    assert [f.lane for f in run.frames] == [0, 3]  # chosen: 3, then 0; told oldest first


def test_of_a_lossless_lane_only_the_first_frame_runs() -> None:
    waiting = [frame(0, 1.0 + n / 10, sequence=n) for n in (3, 2, 4)] + [frame(1, 1.3)]
    run = plan(POLICY, waiting, [], 0, 2.0)
    assert isinstance(run, Run)
    assert [(f.lane, f.sequence) for f in run.frames] == [(0, 2), (1, 1)]


def test_a_fast_lane_that_overtakes_itself_does_not_push_its_deadline_on() -> None:
    arrivals = Arrivals()
    for arrival_s in (1.0, 1.005, 1.01):
        arrivals.observe(0, arrival_s)
    slow_lane = lane_facts(1, -1.0, interval_s=1.5)
    run = plan(POLICY, [frame(0, 1.01)], [*arrivals.facts(), slow_lane], 0, 1.01)
    assert isinstance(run, Run) and run.closed_by is Closed.TIMEOUT


# ------------------------------------------------------------------ arrivals


def test_a_lane_has_no_facts_before_its_first_frame_and_none_once_forgotten() -> None:
    arrivals = Arrivals()
    arrivals.forget(3)
    assert arrivals.facts() == ()
    arrivals.observe(3, 1.0)
    assert arrivals.facts() == (LaneFacts(3, 1.0, None, 0, waiting_since_s=1.0),)
    arrivals.forget(3)
    assert arrivals.facts() == ()


def test_a_closed_batch_counts_whom_it_passed_over() -> None:
    arrivals = Arrivals()
    waiting = [frame(lane, 1.0) for lane in range(3)]
    for ref in waiting:
        arrivals.observe(ref.lane, ref.arrival_s)
    arrivals.closed(Run((waiting[0],), 1, Closed.FULL), waiting)
    assert [(f.passed_over, f.waiting_since_s) for f in arrivals.facts()] == [
        (0, None),
        (1, 1.0),
        (1, 1.0),
    ]
    arrivals.closed(Run((waiting[2],), 1, Closed.FULL), waiting[1:])
    assert [f.passed_over for f in arrivals.facts()] == [0, 2, 0]


def test_the_facts_carry_each_lanes_own_smoothed_interval() -> None:
    arrivals = Arrivals()
    for number in range(4):
        arrivals.observe(0, number / 30)
        arrivals.observe(1, number / 10)
    assert [f.interval_s for f in arrivals.facts()] == pytest.approx([1 / 30, 1 / 10])


# ------------------------------------------------------------------ single plans, any facts

moments = st.floats(0, 0.2, allow_nan=False)
policies = st.builds(
    Policy,
    batch_sizes=st.sets(st.integers(1, 8), min_size=1).map(tuple),
    max_wait_s=st.sampled_from([0.0, 0.004, 0.008, 0.05]),
    depth=st.integers(1, 3),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[FrameRef], list[LaneFacts]]:
    waiting, lanes = [], []
    for lane in range(draw(st.integers(0, 10))):
        last_s = draw(moments)
        if has_frame := draw(st.booleans()):
            waiting.append(frame(lane, last_s))
        lanes.append(
            LaneFacts(
                lane,
                last_s,
                draw(st.none() | st.floats(1 / 240, 0.3)),
                draw(st.integers(0, 3)) if has_frame else 0,
                last_s - draw(st.floats(0, 0.05)) if has_frame else None,
            )
        )
    return waiting, lanes


@given(policies, situations(), st.integers(0, 3), moments)
def test_every_batch_has_a_warmed_up_shape_and_one_frame_a_lane(
    policy: Policy,
    situation: tuple[list[FrameRef], list[LaneFacts]],
    in_flight: int,
    now_s: float,
) -> None:
    waiting, lanes = situation
    answer = plan(policy, waiting, lanes, in_flight, now_s)
    if isinstance(answer, Run):
        assert in_flight < policy.depth
        assert answer.batch_size in policy.batch_sizes
        assert 1 <= len(answer.frames) <= answer.batch_size
        assert set(answer.frames) <= set(waiting)
        assert len({f.lane for f in answer.frames}) == len(answer.frames)
        assert list(answer.frames) == sorted(answer.frames, key=lambda f: (f.arrival_s, f.lane))
        assert not any(
            len(answer.frames) <= size < answer.batch_size for size in policy.batch_sizes
        )


@given(policies, situations(), moments, st.floats(0, 1))
def test_a_wait_is_exact_it_holds_until_its_instant_and_ends_at_it(
    policy: Policy,
    situation: tuple[list[FrameRef], list[LaneFacts]],
    now_s: float,
    part: float,
) -> None:
    waiting, lanes = situation
    answer = plan(policy, waiting, lanes, 0, now_s)
    if isinstance(answer, Run) or answer.until_s is None:
        return
    between_s = now_s + part * (answer.until_s - now_s)
    if between_s < answer.until_s:
        assert plan(policy, waiting, lanes, 0, between_s) == answer
    assert isinstance(plan(policy, waiting, lanes, 0, answer.until_s), Run)


@given(policies, situations(), moments, st.floats(1 / 240, 1.0))
def test_a_frozen_lane_adds_nothing_once_it_is_overdue(
    policy: Policy,
    situation: tuple[list[FrameRef], list[LaneFacts]],
    now_s: float,
    interval: float,
) -> None:
    waiting, lanes = situation
    frozen = LaneFacts(99, now_s - 2 * interval - 1e-9, interval, 0)
    with_it = plan(policy, waiting, [*lanes, frozen], 0, now_s)
    assert with_it == plan(policy, waiting, lanes, 0, now_s)


# ------------------------------------------------------------------ a simulated worker


@dataclass(slots=True)
class Script:
    """One session: from when to when, how fast, and when its camera freezes."""

    lane: int
    joins_s: float
    leaves_s: float
    fps: float
    freezes_s: float
    thaws_s: float
    jitter: float = 0.0

    def arrivals_s(self, rng: random.Random) -> list[float]:
        times, at_s = [], self.joins_s + rng.random() / self.fps
        while at_s < self.leaves_s:
            if not self.freezes_s <= at_s < self.thaws_s:
                times.append(at_s)
            at_s += (1 + self.jitter * rng.uniform(-1, 1)) / self.fps
        return times


@dataclass(slots=True)
class Simulation:
    """A worker in a world without a clock; it asks `plan` at every event, as the real loop does."""

    policy: Policy
    scripts: Sequence[Script]
    step_s: Sequence[float]
    seed: int = 0
    arrivals: Arrivals = field(default_factory=Arrivals)
    waiting: dict[int, FrameRef] = field(default_factory=dict)
    in_flight: deque[tuple[Run, float]] = field(default_factory=deque)
    fates: dict[tuple[int, int], list[str]] = field(default_factory=dict)
    runs: list[tuple[float, Run]] = field(default_factory=list)
    ages_s: dict[int, list[float]] = field(default_factory=dict)
    waits_s: list[tuple[float, int, float]] = field(default_factory=list)
    most_passed_over: int = 0
    now_s: float = 0.0

    def run(self) -> Simulation:
        events = self._events()
        device_free_s, submitted, wake_s = 0.0, 0, math.inf
        while events or self.in_flight or wake_s < math.inf:
            at_s = min(
                events[0][0] if events else math.inf,
                self.in_flight[0][1] if self.in_flight else math.inf,
                wake_s,
            )
            self.now_s = max(self.now_s, at_s)
            while self.in_flight and self.in_flight[0][1] <= self.now_s:
                run, done_s = self.in_flight.popleft()
                for ref in run.frames:
                    self.ages_s.setdefault(ref.lane, []).append(done_s - ref.arrival_s)
            while events and events[0][0] <= self.now_s:
                self._happen(heapq.heappop(events))
            while isinstance(answer := self._ask(), Run):
                device_free_s = (
                    max(device_free_s, self.now_s) + self.step_s[submitted % len(self.step_s)]
                )
                submitted += 1
                self._submit(answer, device_free_s)
            wake_s = math.inf if answer.until_s is None else answer.until_s
            self._check_wait(wake_s)
        return self

    def _events(self) -> list[tuple[float, int, int, int]]:
        rng = random.Random(self.seed)
        events = []
        for number, script in enumerate(self.scripts):
            for sequence, at_s in enumerate(script.arrivals_s(rng), 1):
                events.append((at_s, number, script.lane, sequence))
            events.append((script.leaves_s, number, script.lane, 0))
        heapq.heapify(events)
        return events

    def _happen(self, event: tuple[float, int, int, int]) -> None:
        at_s, _, lane, sequence = event
        if not sequence:
            if left := self.waiting.pop(lane, None):
                self._fate(left, "abandoned")
            self.arrivals.forget(lane)
            return
        self.arrivals.observe(lane, at_s)
        if overtaken := self.waiting.pop(lane, None):
            self._fate(overtaken, "late")
        self.waiting[lane] = frame(lane, at_s, sequence)

    def _ask(self) -> Run | Wait:
        facts = self.arrivals.facts()
        return plan(
            self.policy, list(self.waiting.values()), facts, len(self.in_flight), self.now_s
        )

    def _submit(self, run: Run, done_s: float) -> None:
        self.arrivals.closed(run, list(self.waiting.values()))
        for ref in run.frames:
            assert self.waiting.pop(ref.lane) == ref
            self._fate(ref, "batched")
            self.waits_s.append((self.now_s, ref.lane, self.now_s - ref.arrival_s))
        self.in_flight.append((run, done_s))
        self.runs.append((self.now_s, run))
        passed = [f.passed_over for f in self.arrivals.facts()]
        self.most_passed_over = max([self.most_passed_over, *passed])

    def _check_wait(self, wake_s: float) -> None:
        """While the device is free, nobody shall wait past `max_wait`."""
        if len(self.in_flight) < self.policy.depth:
            since_s = {f.lane: f.waiting_since_s for f in self.arrivals.facts()}
            for lane in self.waiting:
                began_s = since_s[lane]
                assert began_s is not None
                assert self.now_s < began_s + self.policy.max_wait_s
                assert wake_s <= began_s + self.policy.max_wait_s

    def _fate(self, ref: FrameRef, fate: str) -> None:
        self.fates.setdefault((ref.lane, ref.sequence), []).append(fate)


@st.composite
def worlds(draw: st.DrawFn) -> Simulation:
    scripts = []
    for lane in range(draw(st.integers(1, 9))):
        joins_s = draw(st.floats(0, 0.5))
        freezes_s = draw(st.floats(0, 2.0))
        scripts.append(
            Script(
                lane=lane,
                joins_s=joins_s,
                leaves_s=joins_s + draw(st.floats(0.05, 1.5)),
                fps=draw(st.sampled_from([2, 7, 15, 24, 30, 60, 200])),
                freezes_s=freezes_s,
                thaws_s=freezes_s + draw(st.floats(0, 1.0)),
                jitter=draw(st.sampled_from([0.0, 0.05, 0.9])),
            )
        )
    return Simulation(
        draw(policies),
        scripts,
        draw(st.lists(st.floats(0.0005, 0.08), min_size=1, max_size=8)),
        draw(st.integers(0, 1000)),
    )


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_over_any_world_no_frame_is_lost_doubled_reordered_starved_or_kept_waiting(
    world: Simulation,
) -> None:
    world.run()
    came = Counter(
        (event[2], event[3])
        for event in Simulation(world.policy, world.scripts, [1], world.seed)._events()
    )
    # None lost, none twice: each frame that came has exactly one fate.
    assert set(world.fates) == {key for key in came if key[1]}
    assert all(len(fate) == 1 for fate in world.fates.values())
    assert not world.waiting and not world.in_flight
    # In its lane's order.
    last: dict[int, int] = {}
    for _, run in world.runs:
        assert run.batch_size in world.policy.batch_sizes
        for ref in run.frames:
            assert last.get(ref.lane, 0) < ref.sequence
            last[ref.lane] = ref.sequence
    # Nobody starves: a waiting lane is passed over no more often than the others fill batches.
    assert world.most_passed_over <= math.ceil(len(world.scripts) / world.policy.largest)


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def overload(depth: int, jitter: float, seed: int) -> Simulation:
    """Eight lanes that need twice what the device gives: batches of 4 in 60 ms."""
    fps = 2 * 4 / 0.06 / 8
    scripts = [Script(lane, 0.0, 60.0, fps, 99, 99, jitter) for lane in range(8)]
    return Simulation(Policy((4,), 0.008, depth), scripts, [0.06], seed).run()


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.3])
def test_at_twice_the_load_every_lane_gets_its_share_and_stays_fresh(
    depth: int, jitter: float
) -> None:
    world = overload(depth, jitter, seed=7)
    served = Counter(ref.lane for _, run in world.runs for ref in run.frames)
    share = sum(served.values()) / 8
    assert sum(served.values()) >= 0.98 * 60 / 0.06 * 4  # the device is never idle, never short
    assert all(abs(count - share) <= 0.1 * share for count in served.values())
    ages_s = [age for lane in world.ages_s.values() for age in lane]
    assert percentile(ages_s, 0.95) <= 3 * 0.06 + 0.008


def test_a_frozen_camera_taxes_the_others_only_until_it_is_overdue() -> None:
    policy = Policy((8,), 0.02)
    live = [Script(lane, 0.0, 20.0, 30, 99, 99, 0.03) for lane in range(2)]
    frozen = Script(2, 0.0, 20.0, 30, 5.0, 99, 0.03)
    with_it = Simulation(policy, [*live, frozen], [0.005]).run()
    without = Simulation(policy, live, [0.005]).run()

    def wait_s(world: Simulation) -> list[float]:
        return [w for at_s, lane, w in world.waits_s if at_s > 5.1 and lane != 2]

    assert wait_s(with_it) == wait_s(without)


def test_all_three_rules_close_batches_in_an_ordinary_house() -> None:
    scripts = [
        Script(lane, 0.0, 30.0, fps, 99, 99, 0.2) for lane, fps in enumerate([30, 30, 7, 24])
    ]
    world = Simulation(Policy((4,), 0.008), scripts, [0.004]).run()
    closed = Counter(run.closed_by for _, run in world.runs)
    assert all(closed[rule] > 0 for rule in Closed)
