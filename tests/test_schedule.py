"""workers.schedule: every wait is there, and none too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from workers.device import DEPTH, Copies, Moment, Queue, Serial, Step
from workers.geometry import Geometry
from workers.messages import Fill
from workers.schedule import Buffers, Row, Stage, send

GEOMETRY = Geometry(16, 16)
MOST = 3
HOST = "host"

Clock = dict[str, int]


class Checker(Serial):
    """Runs like a CPU, and finds each pair of accesses that only luck would order on CUDA.

    Vector clocks: an actor (the host, or a queue) knows of another's operation only when it
    waited for a moment recorded after it, or was handed it by the host, as work is on enqueuing.
    """

    in_order = False

    def __init__(self, skipped: tuple[str, Moment] | None = None) -> None:
        super().__init__()
        self.races: list[str] = []
        self._skipped = skipped
        self._clocks: dict[str, Clock] = {HOST: {}, **{queue.value: {} for queue in Queue}}
        self._recorded: dict[tuple[Moment, int], Clock] = {}
        self._accesses: dict[int, list[tuple[str, int, bool, str]]] = {}
        self._down: deque[int] = deque()

    def touch(
        self, actor: str, name: str, reads: Iterable[Tensor] = (), writes: Iterable[Tensor] = ()
    ) -> None:
        clock = self._clocks[actor]
        clock[actor] = clock.get(actor, 0) + 1
        for tensors, is_write in ((reads, False), (writes, True)):
            for tensor in tensors:
                memory = self._accesses.setdefault(tensor.untyped_storage().data_ptr(), [])
                for other, tick, wrote, what in memory:
                    if (wrote or is_write) and other != actor and clock.get(other, 0) < tick:
                        self.races.append(f"{what} against {name}")
                memory.append((actor, clock[actor], is_write, name))

    def copy(self, queue: Queue, copies: Copies) -> None:
        self._learn(queue.value, self._clocks[HOST])
        for source, target in copies:
            self.touch(queue.value, f"{queue.value} copy", [source], [target])
            target.copy_(source)

    def run(self, size: int, step: Step) -> None:
        self._learn(Queue.STEP.value, self._clocks[HOST])
        step(size)

    def record(self, queue: Queue, moment: Moment, buffer: int) -> None:
        self._recorded[moment, buffer] = dict(self._clocks[queue.value])
        super().record(queue, moment, buffer)

    def wait(self, queue: Queue, moment: Moment, buffer: int) -> None:
        if (queue.value, moment) != self._skipped:
            self._learn(queue.value, self._recorded.get((moment, buffer), {}))

    def host_wait(self, moment: Moment, buffer: int) -> None:
        if (HOST, moment) != self._skipped:
            self._learn(HOST, self._recorded.get((moment, buffer), {}))

    def publish(self, buffer: int) -> None:
        self._down.append(buffer)

    def take_published(self) -> bool:
        """As the doorbell's thread does it."""
        if not self._down:
            return False
        self.host_wait(Moment.DOWN_ENDED, self._down.popleft())
        return True

    def _learn(self, actor: str, clock: Clock) -> None:
        own = self._clocks[actor]
        for name, tick in clock.items():
            own[name] = max(own.get(name, 0), tick)


def races_of(
    skipped: tuple[str, Moment] | None = None, *, staged: bool = False, in_flight: int = DEPTH
) -> list[str]:
    """Eight batches, each slot used again at once, never more than `in_flight` of them running."""
    seam = Checker(skipped)
    buffers = Buffers.born(GEOMETRY, MOST, torch.device("cpu"), seam)
    stage = Stage.born(buffers, seam) if staged else None
    slots = np.zeros((DEPTH, 2, MOST, GEOMETRY.rows, GEOMETRY.width), np.uint8)
    copies = [[[slot.copy() for slot in way] for way in buffer] for buffer in slots]
    flights: deque[int] = deque()

    def step(size: int) -> None:
        seam.touch(
            Queue.STEP.value,
            "step",
            [buffers.frames, buffers.table, buffers.dt_s],
            [buffers.chosen, buffers.pictures, buffers.avatars],
        )
        buffers.avatars[:size].copy_(buffers.frames[:size])

    for batch in range(8):
        while len(flights) >= in_flight:
            assert seam.take_published()
            done = flights.popleft()
            down = [torch.from_numpy(slot) for slot in copies[done][1]]
            seam.touch(HOST, "publish", [stage.down[done]] if stage else down)
        buffer = batch % DEPTH
        ins, outs = copies[buffer]
        rows = [Row(n, ins[n], outs[n], 0.0) for n in range(MOST)]
        tables = [buffers.host_tables[buffer], buffers.host_dt_s[buffer]]
        ups = [stage.up[buffer]] if stage else [torch.from_numpy(slot) for slot in ins]
        seam.touch(HOST, "fill slots and tables", writes=[*ups, *tables])
        for slot in ins:
            slot[:] = batch
        buffers.write_tables(rows, MOST, MOST, Fill.LAST, buffer)
        assert send(seam, buffers, stage, rows, MOST, buffer, step) is None
        flights.append(buffer)
    return seam.races


@pytest.mark.parametrize("staged", [False, True], ids=["slots", "stage"])
def test_no_access_is_left_to_luck(staged: bool) -> None:
    assert races_of(staged=staged) == []


@pytest.mark.parametrize("staged", [False, True], ids=["slots", "stage"])
@pytest.mark.parametrize(
    "skipped",
    [
        (Queue.STEP.value, Moment.UP_ENDED),
        (Queue.DOWN.value, Moment.STEP_ENDED),
        (HOST, Moment.DOWN_ENDED),
    ],
    ids=lambda skipped: f"{skipped[0]} without {skipped[1].value}",
)
def test_without_any_one_of_the_waits_there_are_races(
    skipped: tuple[str, Moment], staged: bool
) -> None:
    assert races_of(skipped, staged=staged)


def test_one_batch_more_in_flight_than_there_are_buffers_would_race() -> None:
    assert races_of(in_flight=DEPTH + 1)


def tables(rows: list[Row], size: int, fill: Fill) -> list[list[float]]:
    buffers = Buffers.born(GEOMETRY, 4, torch.device("cpu"), Serial())
    buffers.write_tables(rows, size, 9, fill, 0)
    return [*buffers.host_tables[0][:, :size].tolist(), buffers.host_dt_s[0][:size].tolist()]


def row(lane: int, dt_s: float) -> Row:
    slot = np.zeros((GEOMETRY.rows, GEOMETRY.width), np.uint8)
    return Row(lane, slot, slot, dt_s)


def test_a_fill_row_reads_what_the_last_real_row_reads_and_writes_to_scratch() -> None:
    source, reads, writes, dt_s = tables([row(5, 0.25), row(2, 0.5)], 4, Fill.LAST)
    assert source == [0, 1, 1, 1]
    assert reads == [5, 2, 2, 2]
    assert writes == [5, 2, 9, 9]
    assert dt_s == [0.25, 0.5, 0.5, 0.5]


def test_a_fill_row_of_zeros_takes_the_black_frame() -> None:
    source, reads, writes, _ = tables([row(5, 0.25)], 3, Fill.ZEROS)
    assert source == [0, 4, 4]
    assert reads == [5, 5, 5] and writes == [5, 9, 9]
    black = Buffers.born(GEOMETRY, 4, torch.device("cpu"), Serial()).frames[4]
    assert (black[:16] == 16).all() and (black[16:] == 128).all()
