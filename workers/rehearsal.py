"""Would this model's step capture as a CUDA graph? Needs no GPU, and names what would not.

Two runs of copies of the model: one of fakes, where a host's tensor differs from a device's, and
one of real tensors on the CPU; each sees what the other misses. The real ones run once more with
other values, which must take the same operations, in the same shapes. None sees what a kernel
does inside; `workers.watch` lists by name what is known to wait there.
"""

from __future__ import annotations

import copy
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule

from workers.geometry import Geometry
from workers.models.api import AvatarModel, Tensors
from workers.portrait import portrait_of_nobody
from workers.watch import Refused, Watch

CPU, META = torch.device("cpu"), torch.device("meta")
TORCH = str(Path(torch.__file__).parent)
OURS = {__file__, str(Path(__file__).with_name("watch.py"))}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the step would capture; if not, the first operation that would not, and why."""

    capturable: bool
    operation: str | None = None
    why: str | None = None
    where: str | None = None  # file:line of the model's own source, where it is known
    warnings: tuple[str, ...] = ()  # legal, but worth a look

    def __str__(self) -> str:
        if self.capturable:
            return "the step would capture as a CUDA graph"
        place = f" at {self.where}" if self.where else ""
        return f"the step would not capture as a CUDA graph: {self.operation}{place} {self.why}"


Step = (
    tuple[Tensor, Tensors, Tensors, Tensors, Tensor]
    | tuple[Tensor, Tensors, Tensors, Tensors, Tensor, Tensor]
)


def rehearse(model: AvatarModel, geometry: Geometry, batch_size: int) -> Verdict:
    """The model is left as it is, on whatever device it is; so are the random generators.

    The fakes run at `batch_size`. The real tensors run at one row, unless the model is fixed to a
    batch, since a row of a large model may take seconds on a CPU. Of each, the first pass goes
    unwatched: what a model builds in its first frame and keeps, warm-up builds before the capture.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad():
        try:
            real = _copy(model, CPU, lambda tensor: tensor.detach().to(CPU, copy=True))
        except Exception as error:
            return Verdict(False, "copying the model", f"failed, so nobody looked: {_told(error)}")
        try:
            step = _inputs(real, geometry, model.batch_size or 1)
        except Exception as error:
            return Verdict(False, "the identity or the initial state", f"failed: {_told(error)}")
        verdict = _run_fake(model, _rows(step, batch_size))
        if not verdict.capturable:
            return verdict
        return _run(real, step, CPU, verdict.warnings)


def _run_fake(model: AvatarModel, step: Step) -> Verdict:
    # What no module owns is a host's tensor here too, as it will be beside a CUDA device.
    with FakeTensorMode(allow_non_fake_inputs=True) as fakes:

        def fake(tensor: Tensor) -> Tensor:
            return fakes.from_tensor(torch.empty_like(tensor, device=META))

        try:
            twin = _copy(model, META, fake)
        except Exception as error:
            return Verdict(False, "copying the model", f"failed, so nobody looked: {_told(error)}")
        return _run(twin, _mapped(step, lambda tensor: tensor.to(META)), META, ())


def _run(
    model: AvatarModel, step: Step, stand_in: torch.device, before: tuple[str, ...]
) -> Verdict:
    watch = Watch(stand_in)
    warnings = dict.fromkeys(before)
    try:
        with suppress(Exception):  # the watched pass will say so, by the operation's name
            model(*_mapped(step, torch.clone))
        given = _mapped(step, torch.clone)
        with watch():
            model(*given)
        warnings |= watch.warnings
        if stand_in == CPU:  # fakes have no values
            watch = Watch(stand_in, watch.ran)
            given = _with_other_values(model, step)
            with watch():
                model(*given)
            warnings |= watch.warnings
    except Refused as refused:
        return Verdict(False, refused.operation, refused.why, _where(refused))
    except Exception as error:
        operation = watch.called or watch.dispatched or "the model"
        return Verdict(False, operation.strip("_"), f"failed: {_told(error)}", _where(error))
    return Verdict(True, warnings=tuple(warnings))


# --------------------------------------------------------------------- copies


def _copy(
    model: AvatarModel, device: torch.device, adopt: Callable[[Tensor], Tensor]
) -> AvatarModel:
    """A deep copy, whose parameters and buffers are adopted: no weight is copied twice."""
    registered = [*model.parameters(), *model.buffers()]
    home = registered[0].device if registered else CPU
    adopted: dict[int, object] = {}
    for module in model.modules():
        for own in module.parameters(recurse=False):
            adopted[id(own)] = nn.Parameter(adopt(own), requires_grad=False)
        for buffer in module.buffers(recurse=False):
            adopted[id(buffer)] = adopt(buffer)
        for value in vars(module).values():
            if isinstance(value, Tensor):
                # A graph's constants go where its loader takes them. Another module's plain
                # attribute stays: nn.Module.to does not move it.
                moves = isinstance(module, GraphModule) or value.device == home != CPU
                adopted[id(value)] = adopt(value) if moves else value.detach().clone()
    twin = copy.deepcopy(model, adopted)
    for module in twin.modules():
        if isinstance(module, GraphModule):
            _retarget(module, device)
    return twin


def _retarget(graph_module: GraphModule, device: torch.device) -> None:
    """An exported graph names the device of each tensor that it makes, one for all of them."""

    def moved(value: Any) -> Any:  # Any: whatever a node holds
        # move_to_device_pass writes names where torch.export writes devices.
        names_device = isinstance(value, str) and value.split(":")[0] in {"cpu", "cuda"}
        return device if names_device or isinstance(value, torch.device) else value

    for node in graph_module.graph.nodes:
        node.args = torch.fx.node.map_aggregate(node.args, moved)
        node.kwargs = torch.fx.node.map_aggregate(node.kwargs, moved)
    graph_module.recompile()


# --------------------------------------------------------------------- inputs


def _inputs(model: AvatarModel, geometry: Geometry, rows: int) -> Step:
    """What the engine would pass, on the CPU."""
    identity = model.identity(portrait_of_nobody(model, geometry)) if model.has_identity else {}
    frames = torch.rand(1, 3, geometry.height, geometry.width)
    one: Step = (
        frames,
        {name: row[None] for name, row in identity.items()},
        {name: row[None] for name, row in model.initial_state().items()},
        {name: torch.full((1,), control.default) for name, control in model.controls.items()},
        torch.full((1,), 1 / 30),
    )
    if model.reads_banks:
        one = (*one, torch.zeros(1, dtype=torch.int64))
    return _rows(one, rows)


def _with_other_values(model: AvatarModel, step: Step) -> Step:
    """Other pictures, another pause between them, every control at its lowest."""
    frames, identity, state, controls, dt_s, *rows = _mapped(step, torch.clone)
    lowest = {
        name: torch.full_like(value, model.controls[name].low) for name, value in controls.items()
    }
    return (1 - frames, identity, state, lowest, 2 * dt_s, *rows)  # type: ignore[return-value]


def _rows(step: Step, rows: int) -> Step:
    """The first row, as many times."""
    return _mapped(step, lambda tensor: tensor[:1].expand(rows, *tensor.shape[1:]).clone())


def _mapped(step: Step, change: Callable[[Tensor], Tensor]) -> Step:
    changed = (
        {name: change(row) for name, row in part.items()}
        if isinstance(part, dict)
        else change(part)
        for part in step
    )
    return tuple(changed)  # type: ignore[return-value]  # mypy loses a tuple's length here


# ---------------------------------------------------------------------- words


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _where(error: BaseException) -> str | None:
    """The innermost line that is neither torch's nor ours."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith((TORCH, "<")) or frame.filename in OURS:
            continue
        if "contextlib" in frame.filename:
            continue
        return f"{os.path.relpath(frame.filename)}:{frame.lineno}"
    return None
