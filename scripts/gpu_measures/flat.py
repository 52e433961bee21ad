"""2, 3, 11 and 12. Memory that stays: in traffic, over a ladder, behind the fuse; what looking at
it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from random import Random
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from gpu_measures.common import (
    MIB,
    Blurred,
    Deep,
    changed,
    counters,
    device_bytes,
    device_here,
    drive,
    engine_on,
    noise,
    nvml_here,
    rows_of,
    take,
)
from gpu_measures.measure import Ask, Figures, Found, Measure, kept
from workers.engine import Done
from workers.geometry import Geometry
from workers.memory import probe_for
from workers.models.api import AvatarModel, Tensors
from workers.ring import Arena
from workers.schedule import Row

LANES = 16
LADDER = (4, 8, 16)
TRAFFIC_S = 60.0
REPLAYS = 20_000


def flat_line(ask: Ask) -> Found:
    """Random rungs, joins, leaves, stalls and identities, and nothing may move."""
    geometry = Geometry(128, 128) if ask.on_gpu else Geometry(48, 32)
    least = ask.times(REPLAYS if ask.on_gpu else 2_000, 50)
    random, nvml = Random(2), nvml_here()
    with (
        Arena.create(geometry, LANES) as arena,
        engine_on(arena, Blurred(geometry), geometry, sizes=LADDER, sessions=LANES) as engine,
    ):
        engine.warm_up(lambda: None)
        faces = [{"face": torch.rand(3, geometry.height, geometry.width)} for _ in range(4)]
        for lane in range(LANES):
            engine.open_lane(lane, {}, {})
            for slot in range(3):
                arena.inbox(lane).view(slot)[:] = noise(geometry, 1)[0]
        done = {"joins": 0, "identities": 0, "failed": 0, "unsound": 0}
        live: set[int] = set(range(LANES))

        def change() -> None:
            lane = random.randrange(LANES)
            if random.random() < 0.5:
                engine.set_identity(lane, random.choice(faces))
                done["identities"] += 1
            elif lane in live and len(live) > 1:
                engine.close_lane(lane)
                live.discard(lane)
            else:
                engine.open_lane(lane, random.choice([{}, *faces]), {"gain": random.random()})
                live.add(lane)
                done["joins"] += 1

        def plans(batches: int) -> Iterable[tuple[int, Sequence[Row]]]:
            until_s = perf_counter() + TRAFFIC_S
            for batch in range(batches):
                if perf_counter() > until_s:
                    return
                if random.random() < 0.05:
                    change()
                ready = random.sample(sorted(live), random.randint(1, len(live)))  # others stall
                size = next(size for size in LADDER if size >= len(ready))
                yield random.choice([s for s in LADDER if s >= size]), rows_of(arena, ready, batch)

        ended = 0

        def look(batch: Done, rows: Sequence[Row], took_s: float) -> None:
            nonlocal ended
            ended += 1
            done["failed"] += batch.error is not None
            done["unsound"] += len(batch.unsound)

        drive(engine, plans(50), look)  # nothing of ours is new to the traffic any more
        before, nvml_before, ended = counters(), device_bytes(nvml, os.getpid()), 0
        drive(engine, plans(least), look)
        moved = changed(before, counters())
        nvml_after = device_bytes(nvml, os.getpid())
        grown = None if nvml_before is None or nvml_after is None else nvml_after - nvml_before
        events = [event.message for event in engine.events()]
        bars = {
            f"{least} replays within {TRAFFIC_S:.0f} s": ended == least,
            "counters": not moved,
            "NVML": grown is None or grown <= 2 * MIB,
            "recompilations": engine.recompilations == 0,
            "shapes": engine.shapes == len(LADDER),
            "events": not events,
            "failures": done["failed"] == done["unsound"] == 0,
            "captured": engine.captured or not ask.on_gpu,
        }
        is_kept, missed = kept(bars)
        figures: Figures = {
            "batches": ended, "moved": moved, "nvml_grown_bytes": grown, "events": events[:8],
            "shapes": engine.shapes, "recompilations": engine.recompilations, **done,
            "counters": before,
        }  # fmt: skip
    says = f"{ended} batches, {done['joins']} joins, {done['identities']} live identities: "
    says += (
        f"moved {moved or 'nothing'}, NVML {'not told' if grown is None else f'{grown:+d} bytes'}"
    )
    return Found(is_kept, says if is_kept else f"{missed}; {says}", figures)


FLAT_LINE = Measure(flat_line, "shapes, events and failures in the same traffic")


# ------------------------------------------------------------------------ ladders

ORDERS = {"single": (16,), "largest first": (16, 8, 4, 2, 1), "smallest first": (1, 2, 4, 8, 16)}


def ladders(ask: Ask) -> Found:
    """What a pool of graphs reserves, by the order in which its rungs are captured."""
    reserved: dict[str, int] = {}
    for name in ORDERS:
        done = subprocess.run(
            [sys.executable, sys.argv[0], "--arm", json.dumps(["ladder", name])],
            capture_output=True, text=True, timeout=40, check=True,
        )  # fmt: skip
        reserved[name] = int(json.loads(done.stdout.splitlines()[-1])["reserved_bytes"])
        ask.tell(**{name: reserved[name]})
    ratio = reserved["largest first"] / reserved["single"]
    other = reserved["smallest first"] / reserved["single"]
    says = f"largest first {ratio:.2f} ×, smallest first {other:.2f} × a single rung"
    return Found(ratio <= 1.15, says, {"reserved_bytes": dict(reserved)})


@torch.inference_mode()
def run_ladder(name: str) -> Figures:
    """What all graphs of one order reserve, weights and inputs left out."""
    device = device_here()
    net = Deep(2).to(device).eval()
    frames, out = (torch.zeros(16, 3, 512, 512, device=device) for _ in range(2))
    stream, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
    torch.backends.cudnn.benchmark = True
    torch.cuda.synchronize()

    def step(size: int) -> None:
        out[:size].copy_(net(frames[:size]))

    with torch.cuda.stream(stream):
        for size in ORDERS[name]:
            for _ in range(3):
                step(size)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    graphs = []
    for size in ORDERS[name]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            step(size)
        graphs.append(graph)
    for graph in graphs:
        graph.replay()
    torch.cuda.synchronize()
    return {"reserved_bytes": torch.cuda.memory_reserved() - before}


LADDERS = Measure(ladders, None)


# ----------------------------------------------------------------------- the fuse


class Greedy(AvatarModel):
    """Asks, when told to, for more than warm-up ever saw."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 3, padding=1)
        self.extra_bytes = 0

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        if self.extra_bytes:
            if not frames.is_cuda:
                raise torch.OutOfMemoryError("no such memory, says a model on a CPU")
            torch.empty(self.extra_bytes, dtype=torch.uint8, device=frames.device)
        return torch.sigmoid(self.net(frames)), state


def fuse(ask: Ask) -> Found:
    """A shape that was never warmed up: an error, counted, and the next batch as ever."""
    geometry = Geometry(128, 128) if ask.on_gpu else Geometry(48, 32)
    model = Greedy()
    with (
        Arena.create(geometry, 1) as arena,
        engine_on(arena, model, geometry, sizes=(4,), sessions=4, capture=False) as engine,
    ):
        engine.warm_up(lambda: None)
        engine.open_lane(0, {}, {})
        rows = rows_of(arena, [0], 0)
        before = counters()
        told: list[Done] = []
        for extra in (0, 512 * MIB, 0, 0):
            model.extra_bytes = extra
            engine.submit(rows, 4)
            told.append(take(engine))
        after = counters()
        memory = engine.memory()
        events = [event.event_type for event in engine.events()]
    bars = {
        "dropped": told[1].out_of_memory,
        "next batch": told[0].error is None and told[2].error is None and told[3].error is None,
        "event": "out_of_memory" in events,
        "counted": not ask.on_gpu or after["num_ooms"] > before["num_ooms"],
        "no growth": not ask.on_gpu
        or after["reserved_bytes.current"] <= before["reserved_bytes.current"] + 2 * MIB,
    }
    is_kept, missed = kept(bars)
    says = f"512 MiB more: {told[1].error or 'they were given'}"
    figures: Figures = {
        "moved": changed(before, after), "events": events,
        "reserved_bytes": memory.reserved_bytes,
    }  # fmt: skip
    return Found(is_kept, says if is_kept else f"{missed}; {says}", figures)


FUSE = Measure(fuse, "a model's own out-of-memory error: dropped, told, the next batch fine")


# ---------------------------------------------------------------- what looking costs


def probes(ask: Ask) -> Found:
    """The cost of each way to look at memory, in µs."""
    probe, nvml, pid = probe_for(device_here()), nvml_here(), os.getpid()
    ways: dict[str, Callable[[], object]] = {"the engine's sample": probe.sample}
    if ask.on_gpu:
        ways |= {
            "memory_stats_as_nested_dict": torch.cuda.memory_stats_as_nested_dict,
            "memory_stats": torch.cuda.memory_stats,
            "memory_allocated": torch.cuda.memory_allocated,
            "mem_get_info": torch.cuda.mem_get_info,
        }
        if nvml is not None:
            ways["NVML"] = lambda: device_bytes(nvml, pid)
        torch.zeros(1, device="cuda")
    costs = {name: cost_us(way, ask.times(2_000, 50)) for name, way in ways.items()}
    probe.close()
    says = ", ".join(f"{name} {cost:.0f} µs" for name, cost in costs.items())
    nested = costs.get("memory_stats_as_nested_dict")
    return Found(None if nested is None else nested < 100, says, {"us": costs})


def cost_us(way: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        began_s = perf_counter()
        way()
        took.append((perf_counter() - began_s) * 1e6)
    return round(median(took), 2)


PROBES = Measure(probes, "the process's own sample")
