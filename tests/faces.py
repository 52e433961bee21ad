"""One real face for the tests of the face room, and what the original nets say of it.

It is Eileen Collins, by NASA, in the public domain; scripts/convert_face_weights wrote the file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from workers.models.api import Tensors

ORIGINAL = Path(__file__).with_name("face.safetensors")


@cache
def original() -> Tensors:
    return load_file(ORIGINAL)


def portrait() -> Tensor:
    """(1, 3, 256, 256) in [0, 1]: the face and half its width around it."""
    return original()["face"][None].float() / 255


def scene(x: float = 0.0, y: float = 0.0, size: float = 0.6, side: int = 256) -> Tensor:
    """(1, 3, side, side): the face on grey, off the middle by x and y, from -1 to 1.

    size: of the portrait, whose face is two thirds of it, in the picture.
    """
    steps = (torch.arange(side) * 2 + 1) / side - 1
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    grid = torch.stack([(columns - x) / size, (rows - y) / size], -1)[None]
    inside = (grid.abs().amax(-1) < 1).float()[:, None]
    return F.grid_sample(portrait(), grid, align_corners=False) * inside + 0.5 * (1 - inside)


def nobody(side: int = 256) -> Tensor:
    return torch.full((1, 3, side, side), 0.5)


def rows(state: Tensors, count: int = 1) -> Tensors:
    return {name: row.expand(count, *row.shape).clone() for name, row in state.items()}
