"""A look at a model: its shapes, one run of it, and its rehearsal, in a process of its own."""

from __future__ import annotations

import os
import sys

import click
import torch
from torch import Tensor

from workers.device import name_of
from workers.errors import ModelError, OmokageError
from workers.experiment import Bench
from workers.experiment_messages import Phase
from workers.geometry import Geometry
from workers.inspection_messages import Inspected, Unfit
from workers.lines import to_line
from workers.models.loader import load_model
from workers.parent import leave_with_parent
from workers.rehearsal import rehearse
from workers.terms import choose_geometry
from workers.worker import find_device


def inspect(name: str, device_name: str, asked: Geometry | None, batch: int) -> Inspected:
    """batch: the rows that it runs and is rehearsed with, where it does not name its own.

    Raises OmokageError, in one line.
    """
    device = find_device(device_name)
    model = load_model(name, device)
    geometry = choose_geometry(asked, model.geometry, on_cuda=device.type == "cuda")
    batch = model.batch_size or batch
    with torch.inference_mode():
        bench = Bench(model, geometry, batch, device, compile=False)
        run = bench.batch(Phase.WARM_UP, 1, batch, batch)
        if run.error is not None:
            raise ModelError(f"the model fails on a batch of {batch}: {run.error}")
        bench.judge()
    verdict = rehearse(model, geometry, batch)
    weights = [*model.parameters(), *model.buffers()]
    return Inspected(
        device=str(device),
        device_name=name_of(device)[0],
        geometry=str(geometry),
        batch_size=model.batch_size,
        parameters=sum(weight.numel() for weight in model.parameters()),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        takes=_frames_said(bench.frames),
        gives=_frames_said(bench.avatars),
        low=round(float(bench.avatars.min()), 4),
        high=round(float(bench.avatars.max()), 4),
        identity={name: _row_said(tensor) for name, tensor in bench.identity.items()},
        state={name: _row_said(tensor) for name, tensor in bench.state.items()},
        controls={name: (c.low, c.high, c.default) for name, c in model.controls.items()},
        reads_banks=model.reads_banks,
        is_capturable=verdict.capturable,
        verdict=str(verdict),
        warnings=verdict.warnings,
    )


def _frames_said(tensor: Tensor) -> str:
    rest = ", ".join(map(str, tensor.shape[1:]))
    return f"(B, {rest}) {str(tensor.dtype).removeprefix('torch.')}"


def _row_said(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')}"


@click.command()
@click.option("--alive", "alive_fd", type=int, required=True, help="The parent's pipe.")
@click.option("--tell", "tell_fd", type=int, required=True, help="Where the line goes.")
@click.option("--device", required=True)
@click.option("--geometry", default=None)
@click.option("--batch", type=int, required=True)
@click.argument("model")
def main(
    alive_fd: int, tell_fd: int, device: str, geometry: str | None, batch: int, model: str
) -> None:
    """Inspects a model; `omokage check` starts it."""
    leave_with_parent(alive_fd)
    told: Inspected | Unfit
    try:
        asked = None if geometry is None else Geometry.parse(geometry)
        told = inspect(model, device, asked, batch)
    except OmokageError as error:
        told = Unfit(str(error))
    os.write(tell_fd, to_line(told))
    sys.stdout.flush()
    os._exit(0)  # no interpreter teardown: a CUDA context that hangs must not keep us


if __name__ == "__main__":
    main()
