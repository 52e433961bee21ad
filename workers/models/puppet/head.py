"""How the picture of a head turns: its depth is known, and what it drags along the less.

Nothing but the head turns. The neck gives way, the shoulders stay, and so does the edge of the
picture where the figure is cut by it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workers.models.api import Tensors
from workers.models.face.mesh import LEFT_CHEEK, OVAL, RIGHT_CHEEK
from workers.models.puppet import field
from workers.models.puppet.framing import SIDE
from workers.models.puppet.places import CHIN, FOREHEAD, LEADING
from workers.models.puppet.raster import blur, distance, inside, pixels, ramp, sample

GRID = 96  # cells a side, over the whole portrait
STEPS = 10
STEEP, EASED = 0.18, 0.40  # of the face's width, from where depth grows by this much only
RINGS = ((1.22, 0.10), (1.6, 0.25))  # of the oval's radius, and how much deeper they lie
DEEPEST = 0.42  # of the face's width
SMOOTH = 3.0  # cells: a step in depth would press the far cheek into a line
NECK = 0.42  # of the face's height away from the jaw, where nothing turns any more
JAW = 0.02, 0.62  # of the face's height above the chin, from where on hair is the head's
MARGIN = 90.0  # pixels from an edge that cuts the figure, from where it gives way


class Turn(NamedTuple):
    """Of the head, off its rest; see `motion.Motion`."""

    centre: Tensor  # (B, 3)
    rotation: Tensor  # (B, 3, 3)
    growth: Tensor  # (B,)
    shift: Tensor  # (B, 2)


def prepare(points: Tensor, matte: Tensor) -> Tensors:
    """points (478, 3); matte (512, 512) in [0, 1]. Gives `terrain` (2, GRID, GRID): the depth in
    pixels, and how much of the head's motion each cell takes part in."""
    depth = _depth(points)
    return {"terrain": torch.stack([depth, _share(points, matte)])}


def turned(turn: Turn, places: Tensor, depth: Tensor) -> Tensor:
    """Where the head's places (B, 2, …), of depth (B, 1, …), are seen when it has turned."""
    rows = turn.rotation[:, :2] * turn.growth[:, None, None]
    here = torch.cat([places, depth], 1).flatten(2) - turn.centre[:, :, None]
    there = (turn.centre[:, :2] + turn.shift)[:, :, None]
    return torch.baddbmm(there, rows, here).view_as(places)


def ahead(terrain: Tensor, turn: Turn) -> Tensor:
    """How far each cell goes, (B, 2, GRID, GRID), in pixels."""
    cells = own_cells(terrain).expand(terrain.shape[0], -1, -1, -1)
    return (turned(turn, cells, terrain[:, 0:1]) - cells) * terrain[:, 1:2]


def unturned(terrain: Tensor, turn: Turn) -> Tensor:
    """What of the portrait at rest is seen in each cell: (B, 2, GRID, GRID), in pixels."""
    step = torch.full_like(turn.shift, SIDE / 2)
    return own_cells(terrain) + field.invert(ahead(terrain, turn), step, STEPS)


def own_cells(like: Tensor) -> Tensor:
    """(1, 2, GRID, GRID): where the cells' centres are, in pixels."""
    steps = (torch.arange(GRID, device=like.device, dtype=torch.float32) + 0.5) * (SIDE / GRID)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y])[None]


def _depth(points: Tensor) -> Tensor:
    width = float((points[LEFT_CHEEK] - points[RIGHT_CHEEK]).norm())
    face = points[list(LEADING)]
    # Depth grows without end towards the face's outline, where a picture has nothing behind.
    steep = STEEP * width
    z = torch.where(face[:, 2] > steep, steep + (face[:, 2] - steep) * EASED, face[:, 2])
    oval = points[list(OVAL[::2])]
    edge = torch.where(oval[:, 2] > steep, steep + (oval[:, 2] - steep) * EASED, oval[:, 2])
    centre = (points[list(OVAL), :2].amax(0) + points[list(OVAL), :2].amin(0)) / 2
    at, heights = [face[:, :2]], [z]
    for reach, deeper in RINGS:
        at.append(centre + (oval[:, :2] - centre) * reach)
        heights.append((edge + deeper * width).clamp(max=DEEPEST * width))
    steps = torch.linspace(0, SIDE, 9)
    border = [torch.stack([steps, torch.full_like(steps, side)], -1) for side in (0.0, SIDE)]
    border += [places.flip(-1) for places in border]
    at += border
    heights += [torch.full((len(places),), DEEPEST * width) for places in border]
    known, height = torch.cat(at) / SIDE, torch.cat(heights)
    solved = field.solved(known, _apart(known))
    cells = (pixels(GRID, GRID) / GRID).reshape(-1, 2)
    depth = field.kernel(known, cells) @ (solved @ height.double())
    smooth = depth.float().view(1, GRID, GRID).clamp(max=DEEPEST * width)
    return blur(smooth, SMOOTH)[0]


def _apart(points: Tensor) -> Tensor:
    """Which of the points (K, 2) to keep so that no two are one."""
    kept: list[int] = []
    for i, point in enumerate(points):
        if not kept or float((points[kept] - point).norm(dim=1).min()) > 2 / SIDE:
            kept.append(i)
    return torch.tensor(kept)


def _share(points: Tensor, matte: Tensor) -> Tensor:
    """1 on the head, less through the neck and away from the jaw, 0 on the shoulders."""
    cells = pixels(GRID, GRID) * (SIDE / GRID)
    up = points[FOREHEAD, :2] - points[CHIN, :2]
    height = up.norm()
    level = ((cells - points[CHIN, :2]) @ (up / height)) / height  # 0 at the chin
    oval = points[list(OVAL), :2]
    off = distance(cells, torch.cat([oval, oval[:1]])) / height
    off = torch.where(inside(cells, oval), 0.0, off)
    above = ramp((level - JAW[0]) / (JAW[1] - JAW[0]))
    share = 1 - (1 - above) * ramp(off / NECK)
    cut = sample(matte[None], cells, "bilinear")[0] > 0.5
    head = cells[..., 1] < points[CHIN, 1]
    for away, edge in (
        (cells[..., 1], cut[0]),
        (SIDE - cells[..., 1], cut[-1]),
        (cells[..., 0], cut[:, 0] & head[:, 0]),
        (SIDE - cells[..., 0], cut[:, -1] & head[:, -1]),
    ):
        if bool(edge.any()):
            share = share * ramp(away / MARGIN)
    return share
