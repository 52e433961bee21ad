"""5. The arena: how fast its memory is, and that it outlives whoever had registered it."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter, sleep

import numpy as np
import torch
from torch import Tensor

from gpu_measures.common import MIB, device_here, noise
from gpu_measures.measure import Ask, Figures, Found, Measure, kept
from workers.device import Moment, Queue, seam_for
from workers.geometry import Geometry
from workers.messages import AttachArena
from workers.ring import Arena

LANES = 8
ARENA_BYTES = 512 * MIB
FRAME_BYTES = 393_216  # 512 × 512, I420
FRAMES = 16  # of a batch


def arena(ask: Ask) -> Found:
    """Rates of pinned, registered and pageable memory; a registration whose owner is killed."""
    figures: Figures = {}
    bars: dict[str, bool] = {}
    if ask.on_gpu:
        rates = figures["gb_per_s"] = rates_of(ask)
        ask.tell(**figures)
        bars = {
            "registered ≥ 95 % of pinned": rates["registered"] >= 0.95 * rates["pinned"],
            "16 copies ≥ 60 % of one": rates["16 copies"] >= 0.60 * rates["one copy"],
            "duplex ≥ 1.3 ×": rates["duplex"] >= 1.3 * rates["one way"],
        }
    killed = outlived()
    bars["the arena outlives its worker"] = bool(killed["ok"])
    figures["killed"] = killed
    is_kept, missed = kept(bars)
    says = f"killed by {killed['killed_by']} while copying, the next one's copies are "
    says += "equal" if killed["ok"] else "wrong"
    if ask.on_gpu:
        says = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items()) + f" GB/s; {says}"
    return Found(is_kept, says if is_kept else f"{missed}; {says}", figures)


def rates_of(ask: Ask) -> dict[str, float]:
    device = device_here()
    there = torch.empty(ARENA_BYTES, dtype=torch.uint8, device=device)
    back = torch.empty(FRAMES * FRAME_BYTES, dtype=torch.uint8, device=device)
    pinned = torch.empty(ARENA_BYTES, dtype=torch.uint8, pin_memory=True)
    mapping = np.frombuffer(mmap.mmap(-1, ARENA_BYTES), np.uint8)
    mapping[:: mmap.PAGESIZE] = 1  # its pages are there
    own = torch.from_numpy(mapping)
    up, down = torch.cuda.Stream(), torch.cuda.Stream()
    repeats = ask.times(20, 3)

    def rate(bytes_: int, copy: Callable[[], object], times: int = repeats) -> float:
        copy()
        torch.cuda.synchronize()
        began_s = perf_counter()
        for _ in range(times):
            copy()
        torch.cuda.synchronize()
        return round(times * bytes_ / (perf_counter() - began_s) / 1e9, 2)

    def whole(source: Tensor) -> Callable[[], object]:
        return lambda: there.copy_(source, non_blocking=True)

    rates = {
        "pageable": rate(ARENA_BYTES, whole(own), 3),
        "pinned": rate(ARENA_BYTES, whole(pinned)),
    }
    with seam_for(device) as seam:
        if not seam.adopt(mapping):
            raise RuntimeError("the arena cannot be registered: raise memlock (ulimit -l)")
        rates["registered"] = rate(ARENA_BYTES, whole(own))
        batch = FRAMES * FRAME_BYTES
        frames = [slice(n * FRAME_BYTES, (n + 1) * FRAME_BYTES) for n in range(FRAMES)]

        def apart() -> None:
            for frame in frames:
                there[frame].copy_(own[frame], non_blocking=True)

        rates["one copy"] = rate(
            batch, lambda: there[:batch].copy_(own[:batch], non_blocking=True), 200
        )
        rates["16 copies"] = rate(batch, apart, 200)

        half = ARENA_BYTES // 2
        result = own[half : half + batch]

        def one_way() -> None:
            with torch.cuda.stream(up):
                there[:batch].copy_(own[:batch], non_blocking=True)

        def duplex() -> None:
            one_way()
            with torch.cuda.stream(down):
                result.copy_(back, non_blocking=True)

        rates["one way"] = rate(batch, one_way, 200)
        rates["duplex"] = rate(2 * batch, duplex, 200)
    return rates


def outlived() -> Figures:
    """Registered, copied from and to, killed meanwhile, and registered again by the next child."""
    geometry = Geometry(256, 256) if torch.cuda.is_available() else Geometry(48, 32)
    with Arena.create(geometry, LANES) as shared:
        for lane, picture in enumerate(noise(geometry, LANES)):
            shared.inbox(lane).view(0)[:] = picture
        killed = child_of(shared, forever=True)
        assert killed.stdout is not None
        first = json.loads(killed.stdout.readline() or "{}")
        sleep(0.05)  # into the middle of some copy
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=30)
        for lane in range(LANES):
            shared.outbox(lane).view(0)[:] = 0
        second = child_of(shared, forever=False)
        said, _ = second.communicate(timeout=30)
        equal = all(
            bool((shared.outbox(lane).view(0) == shared.inbox(lane).view(0)).all())
            for lane in range(LANES)
        )
    died, code = -killed.returncode, second.returncode
    return {
        "ok": bool(first) and died == signal.SIGKILL and code == 0 and equal,
        "first": first,
        "second": json.loads((said.splitlines() or ["{}"])[-1]),
        "killed_by": died,
        "second_exit_code": code,
        "copies_equal": equal,
    }


def child_of(shared: Arena, *, forever: bool) -> subprocess.Popen[str]:
    told = shared.describe()
    plan = [forever, str(told.geometry), told.lanes, told.inbox_slots, told.outbox_slots, *told.fds]
    return subprocess.Popen(
        [sys.executable, sys.argv[0], "--arm", json.dumps(["arena", *plan])],
        pass_fds=shared.fds,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_copies(
    forever: bool, geometry: str, lanes: int, inbox_slots: int, outbox_slots: int, *fds: int
) -> Figures:
    """Copies every lane's first slot through the device into its outbox, again and again."""
    description = AttachArena(Geometry.parse(geometry), lanes, inbox_slots, outbox_slots, fds)
    with Arena.attach(description) as shared, seam_for(device_here()) as seam:
        registered = seam.adopt(shared.buffer)
        shape = (lanes, *shared.inbox(0).view(0).shape)
        there = torch.empty(shape, dtype=torch.uint8, device=device_here())
        ins = [torch.from_numpy(shared.inbox(lane).view(0)) for lane in range(lanes)]
        outs = [torch.from_numpy(shared.outbox(lane).view(0)) for lane in range(lanes)]
        rounds, parent = 0, os.getppid()
        while (rounds < 100 or forever) and os.getppid() == parent:
            seam.record(Queue.UP, Moment.UP_BEGAN, 0)
            seam.copy(Queue.UP, zip(ins, there, strict=True))
            seam.record(Queue.UP, Moment.UP_ENDED, 0)
            seam.wait(Queue.DOWN, Moment.UP_ENDED, 0)
            seam.copy(Queue.DOWN, zip(there, outs, strict=True))
            seam.record(Queue.DOWN, Moment.DOWN_ENDED, 0)
            seam.host_wait(Moment.DOWN_ENDED, 0)
            rounds += 1
            if rounds == 20:
                print(json.dumps({"registered": registered and there.is_cuda}), flush=True)
        return {"registered": registered and there.is_cuda, "rounds": rounds}


ARENA = Measure(arena, "a worker killed while it copies, and the next one")
