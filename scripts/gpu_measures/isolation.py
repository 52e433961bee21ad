"""4. A row is its own: whoever shares its batch, replayed or not, in half precision or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from statistics import median

import torch
from torch import Tensor

from gpu_measures.common import (
    Blurred,
    Deep,
    Pixels,
    device_here,
    drive,
    engine_on,
    levels_apart,
    noise,
    rows_of,
)
from gpu_measures.measure import Ask, Figures, Found, Measure, kept
from workers.engine import Done, Engine
from workers.geometry import Geometry
from workers.ring import Arena
from workers.schedule import Row

LANES = 8
PICTURES = 16
POISON = 0xA5  # in every output slot before its batch
HALF_APART = 1e-2


def isolation(ask: Ask) -> Found:
    """Random fill of lanes that each have a picture, an identity and a gain of their own."""
    geometry = Geometry(256, 256) if ask.on_gpu else Geometry(48, 32)
    figures = fills(geometry, ask.times(10_000 if ask.on_gpu else 1_000, 100))
    ask.tell(**figures)
    replayed = answers(geometry, ask.times(200, 10), capture=True)
    eager = answers(geometry, ask.times(200, 10), capture=False)
    apart = max(levels_apart(*pair) for pair in zip(replayed, eager, strict=True))
    half = half_apart() if ask.on_gpu else None
    bars = {
        "foreign or fill pixels": figures["rows_of_another"] == 0,
        "bit-equal": figures["rows_not_equal_to_the_bit"] == 0,
        "slots of nobody touched": figures["slots_touched"] == 0,
        "failures": figures["failed"] == 0,
        "one shape": figures["shapes"] == 1,
        "events": not figures["events"],
        "replayed against eager": apart <= 1,
        "half precision": half is None or half <= HALF_APART,
    }
    is_kept, missed = kept(bars)
    says = (
        f"{figures['rows']} rows in {figures['batches']} batches, "
        f"{figures['rows_not_equal_to_the_bit']} not equal to the bit, "
        f"{figures['rows_of_another']} of another; replayed against eager {apart} levels; "
        f"half precision {'needs a GPU' if half is None else f'{half:.4f} apart'}"
    )
    figures |= {"levels_apart_from_eager": apart, "half_apart": half}
    return Found(is_kept, says if is_kept else f"{missed}; {says}", figures)


def faces_of(geometry: Geometry) -> list[Tensor]:
    """An identity for each lane."""
    size = geometry.height, geometry.width
    return [
        torch.rand(3, *size, generator=torch.Generator().manual_seed(lane)) for lane in range(LANES)
    ]


def dress(engine: Engine, lane: int, face: Tensor) -> None:
    """A new tenant, whose identity and gain are like no other lane's."""
    engine.open_lane(lane, {"face": face}, {"gain": lane / LANES})


def fills(geometry: Geometry, batches: int) -> Figures:
    random = Random(0)
    wrong = unequal = failed = touched = rows_seen = ended = 0
    steps_ms: list[float] = []
    pictures, faces = noise(geometry, PICTURES), faces_of(geometry)
    with (
        Arena.create(geometry, LANES) as arena,
        engine_on(arena, Blurred(geometry), geometry, sizes=(LANES,), sessions=LANES) as engine,
    ):
        engine.warm_up(lambda: None)
        due = {
            (lane, number): alone(engine, arena, lane, faces[lane], picture)
            for lane in range(LANES)
            for number, picture in enumerate(pictures)
        }
        shown: list[dict[int, int]] = []

        def plans() -> Iterable[tuple[int, Sequence[Row]]]:
            for batch in range(batches):
                lanes = random.sample(range(LANES), random.randint(1, LANES))
                shown.append({lane: random.randrange(PICTURES) for lane in lanes})
                every = {row.lane: row for row in rows_of(arena, range(LANES), batch)}
                for row in every.values():
                    row.slot_out[:] = POISON
                for lane in lanes:
                    dress(engine, lane, faces[lane])  # the state of one that begins, as `alone`
                dressed = [every[lane] for lane in lanes]
                for row in dressed:
                    row.slot_in[:] = pictures[shown[-1][row.lane]]
                yield LANES, dressed

        def look(done: Done, rows: Sequence[Row], took_s: float) -> None:
            nonlocal wrong, unequal, failed, touched, rows_seen, ended
            ended += 1
            failed += done.error is not None or bool(done.unsound)
            steps_ms.append(done.compute_ms)
            numbers = shown.pop(0)
            others = set(range(LANES)) - {row.lane for row in rows}
            for row in rows:
                rows_seen += 1
                apart = levels_apart(row.slot_out, due[row.lane, numbers[row.lane]])
                unequal += apart > 0
                wrong += apart > 1
            for idle in rows_of(arena, sorted(others), ended - 1):
                touched += bool((idle.slot_out != POISON).any())

        drive(engine, plans(), look)
        return {
            "batches": ended, "rows": rows_seen, "rows_filled": engine.filled,
            "rows_not_equal_to_the_bit": unequal, "rows_of_another": wrong,
            "slots_touched": touched, "failed": failed, "shapes": engine.shapes,
            "captured": engine.captured, "compute_ms_p50": round(median(steps_ms), 4),
            "events": [event.message for event in engine.events()][:8],
        }  # fmt: skip


def alone(engine: Engine, arena: Arena, lane: int, face: Tensor, picture: Pixels) -> Pixels:
    """What the picture becomes in this lane with nobody else in its batch."""
    dress(engine, lane, face)
    (row,) = rows_of(arena, [lane], 0)
    row.slot_in[:] = picture
    drive(engine, [(LANES, [row])])
    return row.slot_out.copy()


def answers(geometry: Geometry, batches: int, *, capture: bool) -> list[Pixels]:
    """The same random traffic, states and all."""
    random, pictures = Random(1), noise(geometry, PICTURES)
    answered: list[Pixels] = []
    with (
        Arena.create(geometry, LANES) as arena,
        engine_on(
            arena, Blurred(geometry), geometry, sizes=(LANES,), sessions=LANES, capture=capture
        ) as engine,
    ):
        engine.warm_up(lambda: None)
        for lane, face in enumerate(faces_of(geometry)):
            dress(engine, lane, face)

        def plans() -> Iterable[tuple[int, Sequence[Row]]]:
            for batch in range(batches):
                rows = rows_of(arena, random.sample(range(LANES), random.randint(1, LANES)), batch)
                for row in rows:
                    row.slot_in[:] = pictures[random.randrange(PICTURES)]
                yield LANES, rows

        def look(done: Done, rows: Sequence[Row], took_s: float) -> None:
            assert done.error is None, done.error
            answered.extend(row.slot_out.copy() for row in rows)

        drive(engine, plans(), look)
    return answered


@torch.inference_mode()
def half_apart() -> float:
    """The most that an ordinary net's answer differs, in half precision, from its own in full."""
    device = device_here()
    half, full = Deep(2, torch.float16).to(device), Deep(2, torch.float32).to(device)
    frames = torch.rand(8, 3, 256, 256, device=device)
    return float((half(frames) - full(frames)).abs().max())


ISOLATION = Measure(isolation, "all but half precision, and without graphs")
