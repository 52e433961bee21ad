"""How a portrait's own face moves, before its head turns: two fields that come apart at the lips.

The upper field does not know the lower lip and the lower one not the upper, so each goes on
smoothly where the other's lip is: whatever opens between them is no stretched skin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.models.api import Tensors
from workers.models.face.mesh import OVAL
from workers.models.puppet import field
from workers.models.puppet.places import COMMON, LEADING, LOWER, UPPER
from workers.models.puppet.raster import ramp

GRID = 64  # cells a side, over the face and what gives way around it
STEPS = 12
REACH, REACH_DOWN = 1.5, 2.0  # of the oval's radius, where nothing moves any more
EDGE = 0.12  # of the box, in which what is left fades
PINS = tuple(OVAL[::2])


def prepare(points: Tensor) -> Tensors:
    """Of a portrait whose points (478, 3) are given. See `fields` for what it is."""
    face = points[list(LEADING), :2]
    oval = points[list(PINS), :2]
    centre = (points[list(OVAL), :2].amax(0) + points[list(OVAL), :2].amin(0)) / 2
    off = oval - centre
    reach = torch.where(off[:, 1:] > 0, REACH_DOWN, REACH)
    pins = centre + off * reach
    low, high = pins.amin(0), pins.amax(0)
    box = torch.stack([(low + high) / 2, (high - low) / 2])
    unit = box[1].max()
    at = (torch.cat([face, pins]) - box[0]) / unit
    own = (torch.arange(GRID) * 2 + 1) / GRID - 1
    y, x = torch.meshgrid(own, own, indexing="ij")
    cells = torch.stack([x, y], -1).reshape(-1, 2)
    count, common = len(at), len(COMMON)
    pinned = torch.arange(len(LEADING), count)
    upper = torch.cat([torch.arange(common + len(UPPER)), pinned])
    lower = torch.cat(
        [
            torch.arange(common),
            torch.arange(common + len(UPPER), common + len(UPPER) + len(LOWER)),
            pinned,
        ]
    )
    window = ramp((1 - 1 / GRID - cells.abs().amax(-1)) / EDGE)
    kernel = field.kernel(at, cells * box[1] / unit) * window[:, None]
    solved = torch.stack([field.solved(at, upper), field.solved(at, lower)])
    return {
        "face_box": box,
        "face_kernel": kernel.float(),
        # The pins do not move: their columns would only multiply zeros.
        "face_solved": solved[:, :, : len(LEADING)].float().contiguous(),
    }


def fields(identity: Tensors, moved: Tensor) -> Tensor:
    """How far back what arrives in each cell came from: (B, 4, GRID, GRID), upper x and y, lower.

    moved (B, N, 2): how far each of `LEADING` goes, in pixels of portrait space.
    """
    rows = moved.shape[0]
    weights = identity["face_solved"] @ moved[:, None]
    weights = weights.permute(0, 2, 1, 3).reshape(rows, -1, 4)
    ahead = (identity["face_kernel"] @ weights).transpose(1, 2).reshape(rows * 2, 2, GRID, GRID)
    step = identity["face_box"][:, 1].repeat_interleave(2, 0)
    return field.invert(ahead, step, STEPS).reshape(rows, 4, GRID, GRID)
