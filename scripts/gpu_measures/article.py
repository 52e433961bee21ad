"""1. The article's claims, each arm in a fresh process: the first batch, and a shorter last one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch

from gpu_measures.common import MIB, Deep, counters, device_bytes, device_here, nvml_here
from gpu_measures.measure import Ask, Figures, Found, Measure

ARM_S = 40.0
FULL = 10  # batches before the last one
NOTABLE_TIMES = 1.5  # the median, from which on a batch counts as slow
NOTABLE_BYTES = 2 * MIB


def article(ask: Ask) -> Found:
    """cuDNN's benchmark on and off; ten batches and a last one, short or filled up."""
    arms: dict[str, Figures] = {}
    for benchmark in (True, False):
        for filled in (True, False):
            name = (
                f"benchmark {'on' if benchmark else 'off'}, last {'filled' if filled else 'short'}"
            )
            arms[name] = arm_of(benchmark, filled)
            ask.tell(**{name: arms[name]})
    broken = [name for name, arm in arms.items() if "error" in arm]
    if broken:
        return Found(False, f"{broken[0]} ended early: {arms[broken[0]]['error']}", {"arms": arms})
    if not ask.on_gpu:
        shapes = {name: len(set(num(arm, "rows"))) for name, arm in arms.items()}
        return Found(None, f"shapes that reached the model: {shapes}", {"arms": arms})
    claims = judged(arms)
    figures: Figures = {"arms": arms, "claims": claims}
    fine = [
        arm["last_new_device_allocations"] == 0 and num(arm, "last_ms") <= 1.1 * num(arm, "p50_ms")
        for name, arm in arms.items()
        if "filled" in name
    ]
    return Found(all(fine), " ".join(claims), figures)


def num(arm: Figures, name: str) -> Any:  # Any: JSON's
    return arm[name]


def judged(arms: dict[str, Figures]) -> list[str]:
    """What the figures say of the two claims, whichever way they fall."""
    return [first_batch(arms), *(last_batch(arms, f"benchmark {state}") for state in ("on", "off"))]


def first_batch(arms: dict[str, Figures]) -> str:
    """The first claim: the first batch needs far more memory, since cuDNN tunes itself."""
    extra, times = (
        {
            state: median(value(arm) for name, arm in arms.items() if f"benchmark {state}" in name)
            for state in ("on", "off")
        }
        for value in (
            lambda arm: num(arm, "first_extra_bytes"),
            lambda arm: num(arm, "first_ms") / num(arm, "p50_ms"),
        )
    )
    if extra["on"] - extra["off"] > NOTABLE_BYTES:
        verdict = "It holds here"
    elif extra["off"] > NOTABLE_BYTES:
        verdict = "Half of it holds here: the first batch needs more, but not by tuning"
    else:
        verdict = "It does not hold here"
    stays = median(num(arm, "steady_reserved_bytes") for arm in arms.values())
    return (
        f"That the first batch needs far more memory, as cuDNN tunes itself. {verdict}: over the "
        f"{stays / MIB:.0f} MiB that stay it took {extra['on'] / MIB:.0f} MiB with tuning "
        f"({times['on']:.0f} × the median's time) and {extra['off'] / MIB:.0f} MiB without "
        f"({times['off']:.0f} ×)."
    )


def last_batch(arms: dict[str, Figures], state: str) -> str:
    """The second claim: a shorter last batch allocates and tunes anew, and filling prevents it."""
    short, filled = (
        next(arm for name, arm in arms.items() if state in name and last in name)
        for last in ("short", "filled")
    )

    def disturbs(arm: Figures) -> bool:
        return num(arm, "last_new_device_allocations") > 0 or slowness(arm) > NOTABLE_TIMES

    if disturbs(short):
        verdict = "It holds here" if not disturbs(filled) else "Half of it holds here: not the cure"
    else:
        verdict = "It does not show here"
    return (
        f"That a shorter last batch allocates anew, and filling prevents it, with {state}. "
        f"{verdict}: short {num(short, 'last_new_device_allocations')} new device allocations and "
        f"{slowness(short):.1f} × the median's time, filled "
        f"{num(filled, 'last_new_device_allocations')} and {slowness(filled):.1f} ×."
    )


def slowness(arm: Figures) -> float:
    return float(num(arm, "last_ms") / num(arm, "p50_ms"))


# ---------------------------------------------------------------------- an arm


def arm_of(benchmark: bool, filled: bool) -> Figures:
    """One arm in a process of its own."""
    command = [sys.executable, sys.argv[0], "--arm", json.dumps(["article", benchmark, filled])]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ARM_S, check=False, env=os.environ
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not over after {ARM_S:.0f} s"}
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"error": f"exit code {done.returncode}: {last}"}
    told: Figures = json.loads(done.stdout.splitlines()[-1])
    return told


@torch.inference_mode()
def run_arm(benchmark: bool, filled: bool) -> Figures:
    """Batches of one size, then one of five frames, as it is or filled with its last frame."""
    device = device_here()
    on_gpu = device.type == "cuda"
    torch.backends.cudnn.benchmark = benchmark
    batch, side = (16, 512) if on_gpu else (4, 64)
    net = Deep(2, torch.float16 if on_gpu else torch.float32).to(device).eval()
    nvml, pid = nvml_here(), os.getpid()
    last = torch.rand(min(5, batch - 1), 3, side, side)
    if filled:
        last = torch.cat((last, last[-1:].expand(batch - len(last), -1, -1, -1)))
    inputs = [torch.rand(batch, 3, side, side) for _ in range(FULL)] + [last]
    took_ms, samples, seen = [], [told(nvml, pid)], []
    for frames in inputs:
        began_s = perf_counter()
        net(frames.to(device)).cpu()
        took_ms.append((perf_counter() - began_s) * 1e3)
        samples.append(told(nvml, pid))
        seen.append(len(frames))
    before_last, after_last = samples[-2], samples[-1]
    p50_ms = median(took_ms[2:FULL])
    return {
        "rows": seen,
        "first_ms": took_ms[0],
        "p50_ms": p50_ms,
        "last_ms": took_ms[-1],
        "first_extra_bytes": extra_of_first(samples) if on_gpu else None,
        "steady_reserved_bytes": before_last.get("reserved_bytes.current"),
        "last_new_device_allocations": (
            after_last["num_device_alloc"] - before_last["num_device_alloc"] if on_gpu else None
        ),
        "took_ms": [round(ms, 3) for ms in took_ms],
        "samples": samples,
    }


def told(nvml: Any, pid: int) -> dict[str, int | None]:  # Any: None or an Nvml
    return {**counters(), "nvml_bytes": device_bytes(nvml, pid)}


def extra_of_first(samples: Sequence[dict[str, int | None]]) -> int:
    """The most that was reserved in the first batch, over what stays when all are done."""
    peak, stays = samples[1]["reserved_bytes.peak"], samples[-2]["reserved_bytes.current"]
    assert peak is not None and stays is not None
    return max(peak - stays, 0)


ARTICLE = Measure(article, "the shapes and the times of both arms")
