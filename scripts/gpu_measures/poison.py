"""10. A kernel that goes astray: the process leaves at once, and the next one serves soon."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from time import monotonic, sleep

import torch
from torch import Tensor

from gpu_measures.common import MIB, device_here, engine_on, noise, nvml_here, rows_of, take
from gpu_measures.measure import Ask, Figures, Found, Measure, kept
from stream.nvml import Nvml, NvmlError
from workers.device import name_of
from workers.geometry import Geometry
from workers.models.api import AvatarModel, Tensors
from workers.ring import Arena

EXIT_S, FIRST_FRAME_S = 2.0, 10.0
DARK = 0.1
SMALL = Geometry(64, 64)


class Astray(AvatarModel):
    """Reads far beyond its frames where one is dark."""

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        if not frames.is_cuda:
            if frames.mean() < DARK:
                raise torch.AcceleratorError("CUDA error: an illegal memory access, says a CPU")
            return frames.clone(), state
        far = (frames.mean() < DARK).to(torch.int64).view(1) * (1 << 40)
        return frames + 0 * frames.flatten()[far], state  # an index that the kernel asserts


def poison(ask: Ask) -> Found:
    """Started, poisoned in mid-traffic, and started anew."""
    nvml = nvml_here()
    before = used_bytes(nvml)
    patient = Patient()
    first_s = patient.first_frame_s()
    exit_s, code = patient.poisoned()
    after = settled_bytes(nvml, before)
    ask.tell(exit_s=exit_s, code=code)
    heir = Patient()
    again_s = heir.first_frame_s()
    heir.end()
    left = None if before is None or after is None else after - before
    bars = {
        "exit": code == 1 and exit_s <= EXIT_S,
        "first frame": again_s is not None and (again_s <= FIRST_FRAME_S or not ask.on_gpu),
        "NVML": left is None or left <= 2 * MIB,
    }
    is_kept, missed = kept(bars)
    came = "never came" if again_s is None else f"after {again_s:.1f} s"
    back = "not told" if left is None else f"{left:+d} bytes"
    says = f"left with code {code} after {exit_s:.2f} s, the next one's first frame {came}, "
    says += f"NVML {back}"
    figures: Figures = {
        "first_frame_s": first_s, "exit_s": exit_s, "exit_code": code,
        "first_frame_again_s": again_s, "nvml_left_bytes": left,
    }  # fmt: skip
    return Found(is_kept, says if is_kept else f"{missed}; {says}", figures)


class Patient:
    """A child that serves a frame every few milliseconds until it is told to go astray."""

    def __init__(self) -> None:
        self._began_s = monotonic()
        self._child = subprocess.Popen(
            [sys.executable, sys.argv[0], "--arm", json.dumps(["poison"])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def first_frame_s(self) -> float | None:
        """Since it was started; None: it ended before."""
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], 40)
        line = self._child.stdout.readline() if ready else ""
        return monotonic() - self._began_s if line else None

    def poisoned(self) -> tuple[float, int | None]:
        """How long it lives on, and its exit code; None: it had to be killed."""
        assert self._child.stdin is not None
        began_s = monotonic()
        self._child.stdin.write("astray\n")
        self._child.stdin.flush()
        try:
            code: int | None = self._child.wait(10)
        except subprocess.TimeoutExpired:
            code = None
        took_s = monotonic() - began_s
        self.end()
        return took_s, code

    def end(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.communicate()


def run_patient() -> Figures:
    parent, told = os.getppid(), False
    dark, light = noise(SMALL, 2)
    dark[: SMALL.height], dark[SMALL.height :] = 16, 128
    with (
        Arena.create(SMALL, 1) as arena,
        engine_on(arena, Astray(), SMALL, sizes=(1,), sessions=1) as engine,
    ):
        engine.warm_up(lambda: None)
        engine.open_lane(0, {}, {})
        batch = 0
        while os.getppid() == parent:
            astray = bool(select.select([sys.stdin], [], [], 0.005)[0])
            rows = rows_of(arena, [0], batch)
            rows[0].slot_in[:] = dark if astray else light
            try:
                engine.submit(rows, 1)
                take(engine)
            except RuntimeError:
                os._exit(1)  # as the worker does
            if not told:
                print(json.dumps({"served": True}), flush=True)
                told = True
            batch += 1
    return {}


def used_bytes(nvml: Nvml | None) -> int | None:
    """Of the whole device: the dead have no process to ask about."""
    if nvml is None or not torch.cuda.is_available():
        return None
    try:
        return nvml.device(name_of(device_here())[1] or "").read(0).used_bytes
    except NvmlError:
        return None


def settled_bytes(nvml: Nvml | None, due: int | None) -> int | None:
    """What is used once the driver has tidied up; waits for that for two seconds at most."""
    for _ in range(20):
        used = used_bytes(nvml)
        if used is None or due is None or used <= due + 2 * MIB:
            return used
        sleep(0.1)
    return used


POISON = Measure(poison, "the same, with an error that says it is CUDA's")
