"""6, 7 and 8. How fast frames pass, how much of that is waiting, and what waiting costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from time import perf_counter, process_time, sleep

import torch

from gpu_measures.common import (
    Deep,
    device_here,
    drive,
    engine_on,
    noise,
    rank,
    rows_of,
    take,
)
from gpu_measures.measure import Ask, Figures, Found, Measure, kept
from workers.engine import Done, Engine
from workers.geometry import Geometry
from workers.models.adapters import as_avatar
from workers.models.api import AvatarModel
from workers.models.mirror import Mirror
from workers.ring import Arena
from workers.schedule import Row

WIDE = Geometry(512, 512)


def for_a_while(arena: Arena, size: int, seconds: float) -> Iterable[tuple[int, Sequence[Row]]]:
    until_s, batch = perf_counter() + seconds, 0
    while perf_counter() < until_s:
        yield size, rows_of(arena, range(size), batch)
        batch += 1


def open_all(engine: Engine, arena: Arena) -> None:
    for lane, picture in enumerate(noise(arena.geometry, arena.lanes)):
        engine.open_lane(lane, {}, {})
        for slot in range(3):
            arena.inbox(lane).view(slot)[:] = picture


def pace(engine: Engine, arena: Arena, size: int, seconds: float, in_flight: int = 2) -> Figures:
    """Batches as fast as they go; a batch's time is from `submit` to its end, host to host."""
    took_ms: list[float] = []
    stages: list[tuple[float, float, float]] = []

    def look(done: Done, rows: Sequence[Row], took_s: float) -> None:
        assert done.error is None and not done.unsound, done
        took_ms.append(took_s * 1e3)
        stages.append((done.copy_in_ms, done.compute_ms, done.copy_out_ms))

    began_s = perf_counter()
    drive(engine, for_a_while(arena, size, seconds), look, in_flight)
    passed_s = perf_counter() - began_s
    up, step, down = (round(median(stage), 4) for stage in zip(*stages, strict=True))
    return {
        "batches": len(took_ms),
        "frames_per_s": round(len(took_ms) * size / passed_s, 1),
        "p50_ms": round(rank(took_ms, 0.50), 4),
        "p99_ms": round(rank(took_ms, 0.99), 4),
        "copy_in_ms": up,
        "compute_ms": step,
        "copy_out_ms": down,
    }


# ------------------------------------------------------------------------ pipeline


def pipeline(ask: Ask) -> Found:
    """Two batches in flight against one, of a model whose stages are alike."""
    size, seconds = 16, 5.0 * ask.scale
    with (
        Arena.create(WIDE, size) as arena,
        engine_on(arena, Mirror(), WIDE, sizes=(size,), sessions=size) as engine,
    ):
        engine.warm_up(lambda: None)
        open_all(engine, arena)
        serial, pipelined = (pace(engine, arena, size, seconds, depth) for depth in (1, 2))
    slowest_ms = max(float(str(pipelined[f"{it}_ms"])) for it in ("copy_in", "compute", "copy_out"))
    reached = float(str(pipelined["frames_per_s"])) * slowest_ms / 1e3 / size
    says = (
        f"{pipelined['frames_per_s']} frames/s with two in flight, {serial['frames_per_s']} with "
        f"one; {reached:.2f} of what the slowest stage would allow"
    )
    return Found(reached >= 0.9, says, {"serial": serial, "pipelined": pipelined})


PIPELINE = Measure(pipeline, None)


# ------------------------------------------------------------------------- waiting


def waiting(ask: Ask) -> Found:
    """CPU time while the device works, and at 100 batches a second; and of a wait that spins."""
    size, seconds = 16, 3.0 * ask.scale
    with (
        Arena.create(WIDE, size) as arena,
        engine_on(arena, as_avatar(Deep(20)), WIDE, sizes=(size,), sessions=size) as engine,
    ):
        engine.warm_up(lambda: None)
        open_all(engine, arena)
        began_s, cpu_s = perf_counter(), process_time()
        drive(engine, for_a_while(arena, size, seconds))
        waited = (process_time() - cpu_s) / (perf_counter() - began_s)
    with (
        Arena.create(WIDE, size) as arena,
        engine_on(arena, Mirror(), WIDE, sizes=(size,), sessions=size) as engine,
    ):
        engine.warm_up(lambda: None)
        open_all(engine, arena)
        busy = at_100_a_second(engine, arena, size, seconds)
    spun = spinning(seconds / 3)
    is_kept, missed = kept({"waiting < 0.2": waited < 0.2, "100 batches/s < 0.5": busy < 0.5})
    says = (
        f"waiting {waited:.2f} of a core, 100 batches/s {busy:.2f}; spinning would take {spun:.2f}"
    )
    figures: Figures = {"waiting": waited, "at_100_batches_per_s": busy, "spinning": spun}
    return Found(is_kept, says if is_kept else f"{missed}; {says}", figures)


def at_100_a_second(engine: Engine, arena: Arena, size: int, seconds: float) -> float:
    began_s, cpu_s = perf_counter(), process_time()
    for batch in range(int(seconds * 100)):
        sleep(max(began_s + batch / 100 - perf_counter(), 0))
        engine.submit(rows_of(arena, range(size), batch), size)
        take(engine)
    return (process_time() - cpu_s) / (perf_counter() - began_s)


@torch.inference_mode()
def spinning(seconds: float) -> float:
    """Of an event that is not asked to block, over kernels of some milliseconds."""
    frames = torch.rand(4096, 4096, device=device_here())
    event = torch.cuda.Event()
    began_s, cpu_s = perf_counter(), process_time()
    while perf_counter() - began_s < seconds:
        for _ in range(8):
            torch.mm(frames, frames)
        event.record()
        event.synchronize()
    return (process_time() - cpu_s) / (perf_counter() - began_s)


WAITING = Measure(waiting, None)


# ---------------------------------------------------------------------- throughput

# For an H100: name, blocks of `Deep` (None: mirror), frames/s due
LOADS = (("mirror", None, 20_000), ("10 GFLOP", 2, 8_000), ("100 GFLOP", 20, 800))


def throughput(ask: Ask) -> Found:
    """Host to host, three weights of model at three sizes of batch."""
    geometry = WIDE if ask.on_gpu else Geometry(128, 128)
    sizes = (8, 16, 32) if ask.on_gpu else (1, 2)
    seconds = (4.0 if ask.on_gpu else 1.0) * ask.scale
    peak = peak_tflops() if ask.on_gpu else None
    figures: Figures = {"peak_tflops": peak}
    bars, said = {}, []
    for name, blocks, due in LOADS if ask.on_gpu else LOADS[:1]:
        model: AvatarModel = Mirror() if blocks is None else as_avatar(Deep(blocks))
        with (
            Arena.create(geometry, max(sizes)) as arena,
            engine_on(arena, model, geometry, sizes=sizes, sessions=max(sizes)) as engine,
        ):
            engine.warm_up(lambda: None)
            open_all(engine, arena)
            runs = {size: pace(engine, arena, size, seconds) for size in sizes}
        rates = {size: float(str(run["frames_per_s"])) for size, run in runs.items()}
        best = max(rates, key=rates.__getitem__)
        tail = float(str(runs[best]["p99_ms"])) / float(str(runs[best]["p50_ms"]))
        bars[f"{name} ≥ {due} frames/s"] = rates[best] >= due
        bars[f"{name} p99 ≤ 1.5 × p50"] = tail <= 1.5
        share = None
        if blocks is not None and peak:
            share = rates[best] * Deep.gflop(blocks, geometry) / 1e3 / peak
        figures[name] = {"runs": runs, "best": best, "p99_to_p50": tail, "share_of_peak": share}
        of_peak = "" if share is None else f", {share:.0%} of peak"
        said.append(f"{name} {rates[best]:.0f} frames/s at {best} (p99/p50 {tail:.2f}{of_peak})")
        ask.tell(**{name: figures[name]})
    if not ask.on_gpu:
        return Found(None, f"on the CPU, {geometry}: {'; '.join(said)}", figures)
    is_kept, missed = kept(bars)
    says = "; ".join(said)
    return Found(is_kept, says if is_kept else f"missed {missed}; {says}", figures)


@torch.inference_mode()
def peak_tflops() -> float:
    """What a large product of half-precision matrices reaches."""
    side = 8192
    one, other = (torch.rand(side, side, device=device_here(), dtype=torch.float16) for _ in "ab")
    for _ in range(3):
        torch.mm(one, other)
    torch.cuda.synchronize()
    began_s = perf_counter()
    for _ in range(20):
        torch.mm(one, other)
    torch.cuda.synchronize()
    return 20 * 2 * side**3 / (perf_counter() - began_s) / 1e12


THROUGHPUT = Measure(throughput, "mirror's pace on this CPU, without a bar")
