"""Shapes and blurs on small pictures, in plain torch, for what is made once per portrait.

A picture's pixel centres lie at whole numbers and a half, as everywhere here.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def pixels(height: int, width: int) -> Tensor:
    """(H, W, 2): where each pixel's centre is, x and y."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32) + 0.5,
        torch.arange(width, dtype=torch.float32) + 0.5,
        indexing="ij",
    )
    return torch.stack([x, y], -1)


def inside(places: Tensor, polygon: Tensor) -> Tensor:
    """Which of the places (..., 2) lie in the polygon (N, 2): bool (...), by the even-odd rule."""
    x, y = places[..., 0], places[..., 1]
    found = torch.zeros(x.shape, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(polygon.tolist(), polygon.roll(-1, 0).tolist(), strict=True):
        if ay == by:
            continue
        found ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return found


def distance(places: Tensor, line: Tensor) -> Tensor:
    """From each of the places (..., 2) to the open polyline (N, 2): (...)."""
    nearest = torch.full(places.shape[:-1], math.inf)
    for a, b in pairwise(line):
        along = b - a
        share = ((places - a) @ along / along.square().sum().clamp(min=1e-9)).clamp(0, 1)
        off = places - a - share[..., None] * along
        nearest = torch.minimum(nearest, off.square().sum(-1))
    return nearest.sqrt()


def coverage(places: Tensor, polygon: Tensor, soft: float) -> Tensor:
    """1 within the polygon, 0 outside, a ramp of `soft` pixels across its edge."""
    edge = distance(places, torch.cat([polygon, polygon[:1]]))
    signed = torch.where(inside(places, polygon), edge, -edge)
    return ramp(signed / soft + 0.5)


def ramp(x: Tensor) -> Tensor:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def blur(picture: Tensor, sigma: float) -> Tensor:
    """A Gaussian over (C, H, W); the edge goes on outside."""
    reach = max(1, math.ceil(2.5 * sigma))
    taps = torch.exp(-(torch.arange(-reach, reach + 1) / sigma).square() / 2)
    taps = taps / taps.sum()
    channels = picture.shape[0]
    padded = F.pad(picture[None], (reach,) * 4, mode="replicate")
    padded = F.conv2d(padded, taps.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
    padded = F.conv2d(padded, taps.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return padded[0]


def spread(picture: Tensor, known: Tensor, sigma: float, default: Tensor) -> Tensor:
    """(C, H, W): what is known (H, W, from 0 to 1), grown smoothly into what is not."""
    weight = blur(known[None], sigma) + 1e-4
    return (blur(picture * known, sigma) + 1e-4 * default[:, None, None]) / weight


def sample(picture: Tensor, places: Tensor, mode: str = "bicubic") -> Tensor:
    """(C, H, W) of a picture at the places (h, w, 2), in its pixels: (C, h, w)."""
    height, width = picture.shape[-2:]
    grid = places / torch.tensor([width, height]) * 2 - 1
    found = F.grid_sample(
        picture[None], grid[None], mode=mode, padding_mode="border", align_corners=False
    )
    return found[0]
