"""One arm of the memory experiment: the model alone, in plain torch, in a process of its own."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

import click
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from workers.answers import check_avatars, judge, pair_of
from workers.device import name_of
from workers.engine import WARM_RUNS
from workers.errors import ModelError, OmokageError
from workers.experiment_messages import (
    Facts,
    Impossible,
    Last,
    Phase,
    Shapes,
    Start,
    Stretch,
    Telling,
    Terms,
    Uncaptured,
)
from workers.geometry import Geometry
from workers.lines import to_line
from workers.memory import MemorySample, probe_for
from workers.models.api import AvatarModel, Tensors
from workers.models.loader import load_model
from workers.parent import leave_with_parent
from workers.portrait import portrait_of_nobody
from workers.rehearsal import rehearse
from workers.terms import choose_geometry
from workers.told import told
from workers.worker import find_device

Tell = Callable[[Telling], None]
CONVOLUTIONS = ("aten.conv", "aten._conv", "aten.cudnn_conv", "aten.mkldnn_conv")
DT_S = 0.04


def run(terms: Terms, tell: Tell) -> None:
    """Runs the arm and tells of every batch as it ends.

    Raises OmokageError for what a user can mend. A batch that fails ends the arm, and is told.
    """
    device = find_device(terms.device)
    on_cuda = device.type == "cuda"
    if terms.threads is not None or not on_cuda:
        torch.set_num_threads(terms.threads or 1)
    model = load_model(terms.model, device)
    if model.batch_size not in (None, terms.batch):
        raise ModelError(
            f"the model runs at batch {model.batch_size} only: pass --batch {model.batch_size}"
        )
    asked = None if terms.geometry is None else Geometry.parse(terms.geometry)
    geometry = choose_geometry(asked, model.geometry, on_cuda=on_cuda)
    tell(
        Facts(
            device=str(device),
            device_name=name_of(device)[0],
            geometry=str(geometry),
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            parameters=sum(weight.numel() for weight in model.parameters()),
        )
    )
    with torch.inference_mode(), _one_stream(device):
        bench = Bench(model, geometry, terms.batch, device, compile=terms.compile)
        _measure(bench, terms, tell)


def _measure(bench: Bench, terms: Terms, tell: Tell) -> None:
    whole, short = divmod(terms.frames, terms.batch)
    gc.collect()
    if terms.start == Start.WARM.value:
        for number in range(1, WARM_RUNS + 1):
            if not _told(bench.batch(Phase.WARM_UP, number, terms.batch, terms.batch), tell):
                return
        bench.capture(tell)
    for number in range(1, whole + 1):
        if not _told(bench.batch(Phase.BATCH, number, terms.batch, terms.batch), tell):
            return
    rows = short if terms.last == Last.RAGGED.value else terms.batch
    if _told(bench.batch(Phase.BATCH, whole + 1, short, rows), tell):
        bench.judge()
        tell(bench.shapes(short))


def _told(stretch: Stretch, tell: Tell) -> bool:
    tell(stretch)
    return stretch.error is None


class Bench:
    """The model between buffers that were born, and touched, before anything is measured.

    For one thread; inside inference mode and, on CUDA, one stream. One row is one session, and
    keeps its state from batch to batch: `identity` and `state` have an axis of rows before.
    `frames` and `avatars`: (B, 3, H, W) float32.
    """

    def __init__(
        self,
        model: AvatarModel,
        geometry: Geometry,
        batch: int,
        device: torch.device,
        *,
        compile: bool,
    ) -> None:
        self._device = device
        self._on_cuda = device.type == "cuda"
        self._geometry = geometry
        self._batch = batch
        self._probe = probe_for(device)
        self.identity = self._rows_of(_identity_of(model, geometry, device))
        self.state = self._rows_of(_asked("initial_state", model.initial_state))
        self._controls = {
            name: torch.full((batch,), control.default, device=device)
            for name, control in model.controls.items()
        }
        shape = (batch, 3, geometry.height, geometry.width)
        # Filled, not only allocated: pages that nobody touched would show up in the first batch.
        self._arriving = torch.full(shape, 0.5, pin_memory=self._on_cuda)
        self._leaving = torch.full(shape, 0.5, pin_memory=self._on_cuda)
        self.frames = torch.full(shape, 0.5, device=device)
        self.avatars = torch.full(shape, 0.5, device=device)
        self._dt_s = torch.full((batch,), DT_S, device=device)
        self._rows = torch.arange(batch, device=device)
        self._random = torch.Generator().manual_seed(0)
        self._model = model
        # Any: what a foreign model answers is checked, not trusted.
        self._call: Callable[..., Any] = (
            torch.compile(model, mode="default", dynamic=False) if compile else model
        )
        self._graph: torch.cuda.CUDAGraph | None = None

    def batch(self, phase: Phase, number: int, real: int, rows: int) -> Stretch:
        """Frames from the host, through the model, and back; on `rows` rows, of which `real`
        are frames."""
        self._arriving.uniform_(0, 1, generator=self._random)  # a camera's frames are never alike
        return self._watched(phase, number, real, rows, lambda: self._run(real, rows))

    def capture(self, tell: Tell) -> None:
        """On CUDA, records the step at the whole batch, where the rehearsal allows it."""
        if not self._on_cuda:
            return
        verdict = rehearse(self._model, self._geometry, self._batch)
        if not verdict.capturable:
            tell(Uncaptured(str(verdict)))
            return
        tell(self._watched(Phase.CAPTURE, 1, self._batch, self._batch, self._record))

    def judge(self) -> None:
        """Raises ModelError where the last answer is no picture."""
        judge(self.avatars)

    def shapes(self, short: int) -> Shapes:
        whole = self._convolutions(self._batch)
        return Shapes(len(whole), len(self._convolutions(short) - whole))

    # ------------------------------------------------------------------ inside

    def _run(self, real: int, rows: int) -> bool:
        """Whether a graph was replayed."""
        self.frames[:real].copy_(self._arriving[:real], non_blocking=True)
        if rows > real:
            self.frames[real:rows] = self.frames[real - 1]
        replays = self._graph is not None and rows == self._batch
        if self._graph is not None and replays:
            self._graph.replay()
        else:
            self._step(rows)
        # The fill ends here: only real rows leave.
        self._leaving[:real].copy_(self.avatars[:real], non_blocking=True)
        return replays

    def _step(self, rows: int) -> None:
        def part(of: Tensors) -> Tensors:
            return {name: tensor[:rows] for name, tensor in of.items()}

        frames, bank = self.frames[:rows], self._model.reads_banks
        answer = self._call(
            frames,
            self.identity if bank else part(self.identity),
            part(self.state),
            part(self._controls),
            self._dt_s[:rows],
            *((self._rows[:rows],) if bank else ()),
        )
        avatars, state = pair_of(answer)
        check_avatars(avatars, frames)
        self.avatars[:rows].copy_(avatars)
        for name, tensor in self.state.items():
            tensor[:rows].copy_(state[name])

    def _record(self) -> bool:
        graph = torch.cuda.CUDAGraph()
        # Without the stream, capture takes one of its own, which warm-up has not seen.
        with torch.cuda.graph(
            graph,
            stream=torch.cuda.current_stream(self._device),
            capture_error_mode="thread_local",
        ):
            self._step(self._batch)
        self._graph = graph
        return False

    def _watched(
        self, phase: Phase, number: int, real: int, rows: int, act: Callable[[], bool]
    ) -> Stretch:
        graphs, usage = _compiled_graphs(), resource.getrusage(resource.RUSAGE_SELF)
        before = self._probe.sample()
        error, is_replay, began_s = None, False, perf_counter()
        try:
            is_replay = act()
            if self._on_cuda:
                torch.cuda.synchronize(self._device)
        except Exception as raised:  # the model's: it ends this arm, and is told
            error = str(raised) if isinstance(raised, OmokageError) else told(raised)
        took_ms = (perf_counter() - began_s) * 1e3
        after, used = self._probe.sample(), resource.getrusage(resource.RUSAGE_SELF)
        return Stretch(
            phase=phase.value,
            number=number,
            real=real,
            rows=rows,
            took_ms=round(took_ms, 3),
            before_bytes=_held(before),
            after_bytes=_held(after),
            minor_faults=used.ru_minflt - usage.ru_minflt,
            major_faults=used.ru_majflt - usage.ru_majflt,
            compiled_graphs=_compiled_graphs() - graphs,
            is_replay=is_replay,
            device_allocations=_more(before.device_allocations, after.device_allocations),
            alloc_retries=_more(before.alloc_retries, after.alloc_retries),
            error=error,
        )

    def _convolutions(self, rows: int) -> set[object]:
        call, self._call = self._call, self._model
        seen = Convolutions()
        try:
            with seen:
                self._step(rows)
        except Exception:  # a model of one batch size; its batch has told why
            return set()
        finally:
            self._call = call
        return seen.shapes

    def _rows_of(self, row: Tensors) -> Tensors:
        return {
            name: tensor.to(self._device).expand(self._batch, *tensor.shape).clone()
            for name, tensor in row.items()
        }


class Convolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """The distinct convolutions that run inside: by what cuDNN tells one from another."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.shapes: set[object] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # Any: torch's own signature
        if str(func).startswith(CONVOLUTIONS):
            self.shapes.add(
                tuple(
                    (tuple(it.shape), it.stride(), it.dtype) if isinstance(it, Tensor) else str(it)
                    for it in args
                )
            )
        return func(*args, **(kwargs or {}))


def _identity_of(model: AvatarModel, geometry: Geometry, device: torch.device) -> Tensors:
    if not model.has_identity:
        return {}
    model.cpu()  # where `identity` may count on running
    identity = _asked("identity", lambda: model.identity(portrait_of_nobody(model, geometry)))
    model.to(device)
    return identity


def _asked(method: str, ask: Callable[[], Tensors]) -> Tensors:
    try:
        return ask()
    except Exception as error:
        raise ModelError(f"model failed in {method}: {told(error)}: mend its {method}()") from error


def _one_stream(device: torch.device) -> AbstractContextManager[object]:
    """Warm-up, capture and batches share one: another has a workspace of its own."""
    if device.type != "cuda":
        return nullcontext()
    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True  # as the worker has it
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's
    return torch.cuda.stream(stream)


def _held(sample: MemorySample) -> int:
    held = sample.rss_bytes if sample.reserved_bytes is None else sample.reserved_bytes
    assert held is not None, "a probe tells of one or the other"
    return held


def _more(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _compiled_graphs() -> int:
    dynamo = sys.modules.get("torch._dynamo.utils")  # not imported unless something compiles
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


@click.command()
@click.option("--alive", "alive_fd", type=int, required=True, help="The parent's pipe.")
@click.option("--tell", "tell_fd", type=int, required=True, help="Where the lines go.")
@click.argument("terms")
def main(alive_fd: int, tell_fd: int, terms: str) -> None:
    """An arm of the experiment; `omokage memory` starts it."""
    leave_with_parent(alive_fd)

    def tell(telling: Telling) -> None:
        os.write(tell_fd, to_line(telling))

    try:
        run(Terms(**json.loads(terms)), tell)
    except OmokageError as error:
        tell(Impossible(str(error)))
    sys.stdout.flush()
    os._exit(0)  # no interpreter teardown: a CUDA context that hangs must not keep us


if __name__ == "__main__":
    main()
