"""How much of each pixel of a portrait is the person's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.models.face.weights import load_net
from workers.models.puppet.matte_net import SIDE, MatteNet

WEIGHTS = Path(__file__).with_name("weights")

SURE = 0.9, 0.1  # beyond these the net is believed, between them the picture's own edges
REACH = 7  # px of 512: how far from the net's edge the picture's may be
SMOOTH = 1e-4  # variance of colour below which the picture has no edge


def matte(portrait: Tensor) -> Tensor:
    """(3 or 4, 512, 512) in [0, 1] → (512, 512): 1 the person, 0 the background.

    A fourth channel that is not 1 everywhere is the answer already.
    """
    if len(portrait) == 4 and bool((portrait[3] < 1).any()):
        return portrait[3]
    picture = portrait[None, :3].float()
    small = F.interpolate(picture, size=(SIDE, SIDE), mode="area")
    coarse = F.interpolate(_net()(small), size=picture.shape[-2:], mode="bilinear")
    sure, unsure = SURE
    rough = ((coarse - unsure) / (sure - unsure)).clamp(0, 1)
    edge = _guided(picture, rough)
    # Of a soft edge the middle is the edge; its far ends are haze.
    fine: Tensor = ((edge - 0.15) / 0.7).clamp(0, 1)
    return (fine * fine * (3 - 2 * fine))[0, 0]


@cache
def _net() -> MatteNet:
    return load_net(MatteNet, "matte", WEIGHTS)


def _guided(picture: Tensor, rough: Tensor) -> Tensor:
    """`rough` (1, 1, H, W) with the edges of the picture (1, 3, H, W): He et al., 2010."""
    mean = _mean(picture)
    colours, means = picture[0], mean[0]
    spread = _mean(colours[:, None] * colours) - means[:, None] * means
    level = _mean(rough)
    together = (_mean(picture * rough) - mean * level)[0]
    matrices = spread.permute(2, 3, 0, 1) + SMOOTH * torch.eye(3)
    slope = torch.linalg.solve(matrices, together.permute(1, 2, 0)).permute(2, 0, 1)[None]
    offset = level - (slope * mean).sum(1, keepdim=True)
    return (_mean(slope) * picture).sum(1, keepdim=True) + _mean(offset)


def _mean(x: Tensor) -> Tensor:
    """Over the square around each pixel; beyond the picture nothing counts.

    Its columns, then its rows: the square at once takes several times as long.
    """
    for size, reach in (((2 * REACH + 1, 1), (REACH, 0)), ((1, 2 * REACH + 1), (0, REACH))):
        x = F.avg_pool2d(x, size, 1, reach, count_include_pad=False)
    return x
