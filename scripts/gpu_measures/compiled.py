"""13. A compiled model inside our own capture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from time import perf_counter

from gpu_measures.common import Blurred, drive, engine_on, noise, rows_of
from gpu_measures.measure import Ask, Figures, Found, Measure
from workers.engine import Done
from workers.geometry import Geometry
from workers.ring import Arena
from workers.schedule import Row

LANES = 8


def compiled(ask: Ask) -> Found:
    """Random fill through torch.compile and a graph: nothing is compiled again."""
    geometry, random, failed = Geometry(256, 256), Random(3), 0
    began_s = perf_counter()
    with (
        Arena.create(geometry, LANES) as arena,
        engine_on(
            arena, Blurred(geometry), geometry, sizes=(LANES,), sessions=LANES, compile=True
        ) as engine,
    ):
        engine.warm_up(lambda: None)
        warm_s = perf_counter() - began_s
        for lane, picture in enumerate(noise(geometry, LANES)):
            engine.open_lane(lane, {}, {})
            for slot in range(3):
                arena.inbox(lane).view(slot)[:] = picture

        def plans() -> Iterable[tuple[int, Sequence[Row]]]:
            for batch in range(ask.times(2_000, 20)):
                lanes = random.sample(range(LANES), random.randint(1, LANES))
                yield LANES, rows_of(arena, lanes, batch)

        def look(done: Done, rows: Sequence[Row], took_s: float) -> None:
            nonlocal failed
            failed += done.error is not None or bool(done.unsound)

        drive(engine, plans(), look)
        figures: Figures = {
            "recompilations": engine.recompilations, "warm_up_s": warm_s, "failed": failed,
            "captured": engine.captured,
        }  # fmt: skip
    says = f"{figures['recompilations']} recompilations, warm-up {warm_s:.1f} s"
    return Found(not (failed or figures["recompilations"]) and engine.captured, says, figures)


COMPILED = Measure(compiled, None)
