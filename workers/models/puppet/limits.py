"""How far a portrait's head may turn before its picture folds or tears."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workers.models.face import pose
from workers.models.face.mesh import OVAL
from workers.models.puppet import head
from workers.models.puppet.framing import SIDE
from workers.models.puppet.head import Turn
from workers.models.puppet.raster import inside, pixels

LEAST, MOST = 0.25, 2.0  # of an area, to which nearly all of the face's may shrink and grow
FEW = 0.01  # of the face, which may do worse
ANGLES = tuple(range(8, 34, 2))  # degrees that are tried
NEAR = 0.85  # of a limit that is only ever neared, where the angle that was found lies
ROLL = 0.7  # radians: turning in the picture's plane folds nothing


def prepare(terrain: Tensor, points: Tensor, centre: Tensor) -> Tensor:
    """(2, 3): the most axis × angle about pitch, yaw and roll, the positive and negative way."""
    face = inside(pixels(head.GRID, head.GRID) * (SIDE / head.GRID), points[list(OVAL), :2])
    limits = torch.full((2, 3), ROLL)
    for axis in (0, 1):
        for row, sign in enumerate((1, -1)):
            found = ANGLES[0]
            for degrees in ANGLES:
                vector = torch.zeros(1, 3)
                vector[0, axis] = math.radians(degrees) * sign
                if not _bears(terrain, face, centre, pose.rotation_of(vector)):
                    break
                found = degrees
            limits[row, axis] = math.radians(found) / NEAR
    return limits


def _bears(terrain: Tensor, face: Tensor, centre: Tensor, rotation: Tensor) -> bool:
    turn = Turn(centre[None], rotation, torch.ones(1), torch.zeros(1, 2))
    ahead = head.ahead(terrain[None], turn)[0] * (head.GRID / SIDE)
    down, across = torch.gradient(ahead, dim=(1, 2))
    area = (1 + across[0]) * (1 + down[1]) - across[1] * down[0]
    area = area[face]
    return bool(area.quantile(FEW) > LEAST) and bool(area.quantile(1 - FEW) < MOST)
