"""One portrait made into a puppet, and motions of it by hand, for the tests of its rooms."""

from __future__ import annotations

from functools import cache

import torch
from faces import portrait
from torch import Tensor

from workers.models.api import Tensors
from workers.models.puppet import Puppet, composite
from workers.models.puppet.motion import Motion
from workers.models.puppet.patches import View

SIDE = 512


@cache
def puppet() -> Puppet:
    made: Puppet = Puppet().eval().requires_grad_(False)
    return made


@cache
@torch.inference_mode()
def identity() -> Tensors:
    """Of the face in `faces`, which smiles and shows its teeth."""
    return puppet().identity(portrait()[0])


def own(count: int = 1, **changed: Tensor) -> Tensors:
    """It as `composite` takes it, for `count` rows; some tensors may be others."""
    rows = identity() | changed
    return {name: row.float().expand(count, *row.shape) for name, row in rows.items()}


def still(count: int = 1, **changed: Tensor) -> Motion:
    motion = Motion(
        points=identity()["points"].expand(count, -1, -1),
        rotation=torch.eye(3).expand(count, -1, -1),
        growth=torch.ones(count),
        shift=torch.zeros(count, 2),
        lids=torch.ones(count, 2),
        gaze=torch.zeros(count, 2),
        jaw=torch.zeros(count, 2),
    )
    return motion._replace(**changed)


def drawn(motion: Motion, height: int = SIDE, width: int = SIDE, **changed: Tensor) -> Tensor:
    """(B, 3, H, W)"""
    rows = own(len(motion.growth), **changed)
    return composite.draw(rows, motion, puppet().leading, View(height, width))


def whole() -> Tensor:
    """(1, 3, 512, 512): the portrait itself."""
    rows = own()
    return rows["figure"][:, :3] + rows["figure"][:, 3:] * rows["plate"]
