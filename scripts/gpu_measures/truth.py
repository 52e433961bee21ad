"""9. The rehearsal against the truth: every case of its table, captured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import torch

from gpu_measures.measure import Ask, Figures, Found, Measure
from workers.geometry import Geometry
from workers.models.adapters import as_avatar
from workers.rehearsal import rehearse

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from rehearsal_cases import BAD, GOOD, UNWISE, Step

SMALL = Geometry(32, 16)
ACCEPTED = {**GOOD, **{name: step for name, (step, _) in UNWISE.items()}}
CASES = [*ACCEPTED, *BAD]  # what the promise is about comes first
CASES_S = 60.0
GIVE_UP = 20  # processes that a case may end before its time


def truth(ask: Ask) -> Found:
    """Each case is rehearsed, and, where there is a GPU, captured; a child may die of one."""
    deadline_s = perf_counter() + CASES_S * max(ask.scale, 0.5)
    told: dict[str, Figures] = {}
    names = CASES[:: max(round(1 / ask.scale), 1)]
    for _ in range(GIVE_UP):
        rest = [name for name in names if name not in told]
        if not rest or perf_counter() > deadline_s:
            break
        told |= some_of(rest, deadline_s - perf_counter())
    wrong = [name for name, it in told.items() if it.get("passed") is not (name in ACCEPTED)]
    untold = [name for name in names if name not in told]
    figures: Figures = {"cases": told, "wrong": wrong, "untold": untold}
    says = f"{len(told)} of {len(names)} cases rehearsed, {len(wrong)} unlike the table"
    if not ask.on_gpu:
        return Found(not (wrong or untold), f"{says}; capturing them needs a GPU", figures)
    # Whatever the table says: the promise is that what is accepted is captured.
    broken = [name for name, it in told.items() if it.get("passed") and not it.get("captured")]
    unproved = [name for name in untold if name in ACCEPTED]
    timid = [name for name, it in told.items() if not it.get("passed") and it.get("captured")]
    figures |= {"accepted_but_fails": broken, "refused_but_captured": timid}
    says += f"; accepted but not captured: {', '.join(broken) or 'none'}; "
    says += f"refused though it would capture: {len(timid)}; not tried: {len(untold)}"
    return Found(not (broken or wrong or unproved), says, figures)


def some_of(names: list[str], seconds: float) -> dict[str, Figures]:
    """As far as one child comes; the case that ends it counts as not captured.

    One that time ran out on counts as not tried.
    """
    told: dict[str, Figures] = {}
    is_late = False
    child = subprocess.Popen(
        [sys.executable, sys.argv[0], "--arm", json.dumps(["truth", *names])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said, cried = child.communicate(timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        is_late = True
        child.kill()
        said, cried = child.communicate()
    if not said:
        raise RuntimeError(f"no case was tried: {(cried.strip().splitlines() or ['silence'])[-1]}")
    began: Figures | None = None
    for line in said.splitlines():
        case = json.loads(line)
        if "case" not in case:
            continue
        began = case
        if "captured" in case:
            told[case["case"]], began = case, None
    if began is not None and not is_late:  # it was in the middle of it
        name = str(began["case"])
        told[name] = {**began, "captured": False, "error": "it ended the process"}
    return told


def run_cases(*names: str) -> Figures:
    """One line a case when it is rehearsed, one when it was captured; ends when CUDA is lost."""
    for name in names:
        step = ACCEPTED[name] if name in ACCEPTED else BAD[name][0]
        torch.manual_seed(0)
        verdict = rehearse(as_avatar(Step(step)), SMALL, 2)
        it: Figures = {"case": name, "passed": verdict.capturable, "verdict": str(verdict)}
        if not torch.cuda.is_available():
            print(json.dumps({**it, "captured": None}), flush=True)
            continue
        print(json.dumps(it), flush=True)
        error = captured(Step(step))
        print(json.dumps({**it, "captured": error is None, "error": error}), flush=True)
        # In torch 2.11 a failed capture leaves the allocator inside it: nothing captures after it.
        if error is not None and captured(Step(GOOD["nothing but a sum"])) is not None:
            return {"lost_by": name}
    return {"lost_by": None}


@torch.no_grad()
def captured(step: Step) -> str | None:
    """Why it was not; None: it was, and its replay ran."""
    device = torch.device("cuda")
    model = step.eval().to(device)
    frames = torch.rand(2, 3, SMALL.height, SMALL.width, device=device)
    stream = torch.cuda.Stream()
    try:
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(frames)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            model(frames)
        graph.replay()
        torch.cuda.synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return None


TRUTH = Measure(truth, "every verdict against the table")
