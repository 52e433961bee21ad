"""workers.schedule: every wait is there, and none too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import fields
from random import Random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from recorder import HOST, Checker, Recorder
from torch import Tensor
from torch.utils._pytree import tree_leaves

from workers import schedule
from workers.colour import TensorEdge
from workers.device import DEPTH, Moment, Queue, Serial
from workers.engine import Engine
from workers.geometry import Geometry
from workers.messages import Fill
from workers.models.api import AvatarModel, Control, Tensors
from workers.schedule import Buffers, Row, Stage, send

GEOMETRY = Geometry(16, 16)
MOST = 3


def schedule_races(
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


class Mixing(AvatarModel):
    """Reads and writes all that a model may."""

    controls: ClassVar = {"gain": Control(0.0, 2.0, 1.0)}

    def identity(self, portrait: Tensor) -> Tensors:
        return {"colour": portrait.mean((1, 2))}

    def initial_state(self) -> Tensors:
        return {"last": torch.zeros(3, GEOMETRY.height, GEOMETRY.width)}

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        colour = (identity["colour"] * controls["gain"][:, None])[:, :, None, None]
        return (frames + state["last"] + colour) / 3, {"last": frames}


def engine_run(skipped: tuple[str, Moment] | None = None, *, staged: bool = False) -> Recorder:
    """Warm-up of a ladder and 24 live batches of it, two in flight, each slot used again at once;
    lanes join, leave, and change identities and controls between them."""
    seam, random = Recorder(skipped, adopts=not staged), Random(0)
    with (
        pytest.MonkeyPatch.context() as patch,
        Engine(
            Mixing(),
            geometry=GEOMETRY,
            batch_sizes=(2, MOST),
            device=torch.device("cpu"),
            fill=Fill.LAST,
            max_sessions=MOST,
            compile=False,
            arena=None,
            seam=seam,
        ) as engine,
    ):
        patch.setattr("workers.engine.SETTLE_RUNS", {"cpu": 2})
        tell_numpy_of(seam, patch)
        seam.watch(kept_by(engine))
        # TensorEdge's operations, which CUDA runs; swscale's would go unseen.
        engine._edge = TensorEdge(GEOMETRY)
        engine.warm_up(lambda: None)
        shape = (DEPTH, 2, MOST, GEOMETRY.rows, GEOMETRY.width)
        slots = [[list(way) for way in buffer] for buffer in np.zeros(shape, np.uint8)]
        memory = [torch.from_numpy(slot) for buffer in slots for way in buffer for slot in way]
        seam.watch(memory)
        flights: deque[tuple[int, int]] = deque()

        def land() -> None:
            assert engine.finished() is not None
            buffer, real = flights.popleft()
            outs = [torch.from_numpy(slot) for slot in slots[buffer][1][:real]]
            seam.touch(HOST, "publish", outs)

        for lane in range(MOST):
            engine.open_lane(lane, {"colour": torch.rand(3)}, {})
        for batch in range(24):
            if len(flights) == DEPTH:
                land()
            lane = random.randrange(MOST)
            match batch % 5:
                case 0:
                    engine.close_lane(lane)
                    engine.open_lane(lane, {"colour": torch.rand(3)}, {"gain": 0.5})
                case 1:
                    engine.set_identity(lane, {"colour": torch.rand(3)})
                case 2:
                    engine.set_controls(lane, {"gain": random.random()})
                case 3:
                    engine.open_lane(lane, {}, {})
            buffer, real = batch % DEPTH, random.randint(1, MOST)
            ins, outs = slots[buffer]
            for slot in ins[:real]:
                seam.touch(HOST, "decode", writes=[torch.from_numpy(slot)])
                slot[:] = batch
            rows = [Row(n, ins[n], outs[n], 0.04) for n in range(real)]
            engine.submit(rows, 2 if real <= 2 and batch % 2 else MOST)
            flights.append((buffer, real))
        while flights:
            land()
    return seam


def kept_by(engine: Engine) -> list[Tensor]:
    """Everything that lives longer than a batch."""
    banks, buffers = engine._banks, engine._buffers
    parts = [getattr(buffers, field.name) for field in fields(buffers)]
    parts += [banks.identity, banks.state, banks.controls, banks._initial, banks._arriving]
    parts += [banks._identity, banks._state, banks._controls]
    if engine._stage is not None:
        parts += [engine._stage.up, engine._stage.down]
    return [leaf for leaf in tree_leaves(parts) if isinstance(leaf, Tensor)]


def tell_numpy_of(seam: Recorder, patch: pytest.MonkeyPatch) -> None:
    """What the schedule does by numpy, on the host."""
    write_tables, unsound, unload = Buffers.write_tables, Buffers.unsound, Stage.unload
    sources = schedule._sources

    def told_tables(it: Buffers, *asked: Any) -> None:
        buffer = asked[-1]
        seam.touch(HOST, "tables", writes=[it.host_tables[buffer], it.host_dt_s[buffer]])
        write_tables(it, *asked)

    def told_unsound(it: Buffers, real: int, buffer: int) -> tuple[int, ...]:
        seam.touch(HOST, "sums", [it.host_sums[buffer]])
        return unsound(it, real, buffer)

    def told_unload(it: Stage, rows: Sequence[Row], buffer: int) -> None:
        seam.touch(HOST, "unload", [it.down[buffer]])
        unload(it, rows, buffer)

    def told_sources(rows: Sequence[Row], stage: Stage | None, buffer: int) -> Sequence[Tensor]:
        if stage is not None:
            seam.touch(HOST, "stage", writes=[stage.up[buffer]])
        return sources(rows, stage, buffer)

    patch.setattr(Buffers, "write_tables", told_tables)
    patch.setattr(Buffers, "unsound", told_unsound)
    patch.setattr(Stage, "unload", told_unload)
    patch.setattr(schedule, "_sources", told_sources)


@pytest.mark.parametrize("staged", [False, True], ids=["slots", "stage"])
def test_no_access_is_left_to_luck(staged: bool) -> None:
    assert schedule_races(staged=staged) == []


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
    assert schedule_races(skipped, staged=staged)


def test_the_engine_s_whole_schedule_leaves_nothing_to_luck() -> None:
    for staged in (False, True):
        seam = engine_run(staged=staged)
        assert seam.races == []
        assert seam.seen >= {f"{queue.value} wrote" for queue in Queue} | {
            "host wrote",
            "host read",
        }


WAITS = [
    (Queue.STEP.value, Moment.UP_ENDED),
    (Queue.DOWN.value, Moment.STEP_ENDED),
    (HOST, Moment.DOWN_ENDED),
    (HOST, Moment.BANKS_WRITTEN),
]


@pytest.mark.parametrize("staged", [False, True], ids=["slots", "stage"])
@pytest.mark.parametrize(
    "skipped", WAITS, ids=lambda skipped: f"{skipped[0]} without {skipped[1].value}"
)
def test_and_without_any_one_of_its_waits_the_engine_races(
    skipped: tuple[str, Moment], staged: bool
) -> None:
    assert engine_run(skipped, staged=staged).races


def test_these_are_all_the_waits_that_the_engine_has() -> None:
    assert engine_run().waited == set(WAITS)


def test_one_batch_more_in_flight_than_there_are_buffers_would_race() -> None:
    assert schedule_races(in_flight=DEPTH + 1)


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
