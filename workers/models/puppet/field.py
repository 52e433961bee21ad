"""Smooth displacements of the plane that a few hundred points lead, and their inverse.

Thin-plate splines (Bookstein, 1989). What depends on the portrait alone, the kernel and the solved
system, is made once; a frame costs two products of matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

DAMPING = 0.65  # of the inverse's steps: a stretched place would overshoot without
CALM = 1e-6  # of the spline: any more and lips would stay half shut


def solved(points: Tensor, chosen: Tensor) -> Tensor:
    """The spline's system for the `chosen` (N,) of the points (K, 2): (K + 3, K), float64.

    Times displacements (K, …) it gives the coefficients for `kernel`.
    """
    count = len(points)
    at = points[chosen].double()
    size = len(at)
    system = torch.zeros(size + 3, size + 3, dtype=torch.float64)
    system[:size, :size] = _radial(at, at) + CALM * torch.eye(size)
    system[:size, size] = system[size, :size] = 1
    system[:size, size + 1 :] = at
    system[size + 1 :, :size] = at.T
    inverse = torch.linalg.inv(system)[:, :size]
    whole = torch.zeros(count + 3, count, dtype=torch.float64)
    rows = torch.cat([chosen, torch.arange(count, count + 3)])
    whole[rows[:, None], chosen[None]] = inverse
    return whole


def kernel(points: Tensor, places: Tensor) -> Tensor:
    """(M, K + 3), float64: how the points (K, 2) act on the places (M, 2)."""
    places = places.double()
    ones = torch.ones(len(places), 1, dtype=torch.float64)
    return torch.cat([_radial(places, points.double()), ones, places], 1)


def _radial(places: Tensor, points: Tensor) -> Tensor:
    squared = (places[:, None] - points[None]).square().sum(-1)
    return squared * (squared + 1e-12).log() / 2


class Box(NamedTuple):
    """A rectangle of portrait space; all of (B, 2), in pixels."""

    centre: Tensor
    half: Tensor

    def normal(self, places: Tensor) -> Tensor:
        """(B, 2, …) in pixels → from -1 to 1 in the box."""
        shape = (-1, 2, *[1] * (places.dim() - 2))
        return (places - self.centre.view(shape)) / self.half.view(shape)


def invert(displaced: Tensor, step: Tensor, steps: int) -> Tensor:
    """From how far each cell goes to how far back whatever arrives there came from.

    displaced (B, 2, g, g), in pixels; step (B, 2): what makes pixels of cells from -1 to 1.
    Answers (B, 2, g, g), in pixels: x = y + answer, where x + displaced(x) = y.
    """
    size = displaced.shape[-1]
    own = (torch.arange(size, device=displaced.device, dtype=torch.float32) * 2 + 1) / size - 1
    y, x = torch.meshgrid(own, own, indexing="ij")
    own = torch.stack([x, y])[None]
    scale = (1 / step)[:, :, None, None]
    home = back = -displaced
    for _ in range(steps):
        here = sample(home, torch.addcmul(own, back, scale))
        back = torch.lerp(back, here, DAMPING)
    return back


def sample(
    picture: Tensor, places: Tensor, beyond: str = "border", between: str = "bilinear"
) -> Tensor:
    """(B, C, h, w) at places (B, 2, H, W) from -1 to 1: (B, C, H, W)."""
    grid = places.permute(0, 2, 3, 1)
    return F.grid_sample(picture, grid, between, padding_mode=beyond, align_corners=False)
