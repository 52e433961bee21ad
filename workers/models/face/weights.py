"""The nets with the weights that ship beside this file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("weights")

Net = TypeVar("Net", bound=nn.Module)


def load_net(build: Callable[[], Net], name: str, folder: Path = WEIGHTS) -> Net:
    """The net in eval mode, in float32; the file holds half precision.

    Its convolutions are channels-last, which is the faster half of the choice everywhere.
    """
    with torch.device("meta"):  # nothing is drawn from the random generator only to be dropped
        net = build()
    tensors = {key: t.float() for key, t in load_tensors(name, folder).items()}
    net.load_state_dict(tensors, assign=True)
    net.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it by itself
    return net


def load_tensors(name: str, folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """What is in the file, as it is."""
    return load_file(folder / f"{name}.safetensors")
