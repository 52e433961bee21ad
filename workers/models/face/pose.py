"""How a head is turned, placed and sized: a weighted Procrustes fit without an SVD."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

STEPS = 6  # of Newton's method; a face's points need 4, a cloud as flat as a coin 5
SCALED_STEPS = 3  # the first ones, of a matrix that is still far from a rotation


class Pose(NamedTuple):
    """points ≈ scale × rotation × (model − its centre) + centre."""

    rotation: Tensor  # (B, 3, 3)
    scale: Tensor  # (B,)
    centre: Tensor  # (B, 3)


def fit(model: Tensor, points: Tensor, weights: Tensor) -> Pose:
    """The pose in which `model` (B or 1, N, 3) comes nearest to `points` (B, N, 3).

    weights (N,), of sum 1. Mirror images are not looked for: a face has none.
    """
    weight = weights[:, None]
    centre = (points * weight).sum(1)
    model = model - (model * weight).sum(1, keepdim=True)
    points = points - centre[:, None]
    rotation = nearest_rotation((points * weight).transpose(1, 2) @ model)
    turned = model @ rotation.transpose(1, 2)
    spread = (model.square().sum(-1) * weights).sum(1)
    scale = ((turned * points).sum(-1) * weights).sum(1) / spread
    # What is no face may come out mirrored; its size stays one that has a logarithm.
    return Pose(rotation, scale.clamp(min=1e-3), centre)


def undo(points: Tensor, pose: Pose) -> Tensor:
    """The points (B, N, 3) as the model has them: unturned, of its size, around the origin."""
    return (points - pose.centre[:, None]) @ pose.rotation / pose.scale[:, None, None]


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The orthogonal factor of (B, 3, 3): Newton's method (Higham, 1986), in fixed steps."""
    x: Tensor = matrix / matrix.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
    for step in range(STEPS):
        a, b, c = x.unbind(1)
        cofactors = torch.stack([torch.linalg.cross(*it) for it in ((b, c), (c, a), (a, b))], 1)
        determinant = (a * cofactors[:, 0]).sum(1)[:, None, None]
        # Not zero: a flat cloud of points has no inverse, and its pose is nobody's anyway.
        size = determinant.abs().clamp(min=1e-9)
        inverse = cofactors * (torch.sign(determinant) / size)  # transposed
        if step < SCALED_STEPS:
            factor = size ** (-1 / 3)
            x, inverse = x * factor, inverse / factor
        x = (x + inverse) / 2
    return x


def vector_of(rotation: Tensor) -> Tensor:
    """(B, 3, 3) → axis × angle (B, 3), for angles below π.

    By atan2: near rest an arc cosine turns float32's last bit into a thousandth of a radian.
    """
    r = rotation
    twice = torch.stack(
        [r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], 1
    )
    sine = twice.norm(dim=1) / 2
    cosine = (r[:, 0, 0] + r[:, 1, 1] + r[:, 2, 2] - 1) / 2
    angle = torch.atan2(sine, cosine)
    factor = torch.where(sine > 1e-6, angle / sine.clamp(min=1e-6), torch.ones_like(sine))
    return twice * (factor / 2)[:, None]


def rotation_of(vector: Tensor) -> Tensor:
    """Axis × angle (B, 3) → (B, 3, 3): Rodrigues' formula."""
    angle = vector.norm(dim=1)[:, None, None]
    x, y, z = vector.unbind(1)
    nought = torch.zeros_like(x)
    cross = torch.stack([nought, -z, y, z, nought, -x, -y, x, nought], 1).reshape(-1, 3, 3)
    once = torch.sinc(angle / torch.pi)
    twice = torch.sinc(angle / (2 * torch.pi)).square() / 2
    return torch.eye(3, device=vector.device) + once * cross + twice * (cross @ cross)
