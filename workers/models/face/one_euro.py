"""Points without their noise: the 1€ filter (Casiez et al., 2012), per point."""

from __future__ import annotations

import torch
from torch import Tensor

REST_HZ = 0.3  # the cutoff of what does not move: noise ends here
PER_SPEED_HZ = 60.0  # more for each width of the face that a point moves in a second
NOISE = 0.04  # of these widths: what even a still point seems to move by
SPEED_HZ = 4.0  # the cutoff of the speed itself


def smooth(
    points: Tensor,
    before: Tensor,
    speed: Tensor,
    dt_s: Tensor,
    width: Tensor,
    smoothing: Tensor,
    most_hz: Tensor,
) -> tuple[Tensor, Tensor]:
    """The points (B, N, 3) smoothed, and their speed (B, N, 3) in widths of the face a second.

    before, speed: the last call's answers; width (B,): of the face, in the points' unit;
    smoothing (B,): 1 as designed, 0 none; most_hz (B,): an upper bound of the cutoff.
    """
    dt = dt_s[:, None, None]
    unit = 1 / (width[:, None, None] * dt.clamp(min=1e-3))
    speed = speed + _share(SPEED_HZ, dt) * ((points - before) * unit - speed)
    # One cutoff for a point's three coordinates: else a slanted path would bend.
    fast = speed[..., :2].norm(dim=-1, keepdim=True)
    fast = (fast - NOISE).clamp(min=0)
    cutoff = (REST_HZ + PER_SPEED_HZ * fast) / smoothing[:, None, None].clamp(min=1e-3)
    cutoff = torch.minimum(cutoff, most_hz[:, None, None])
    return before + _share(cutoff, dt) * (points - before), speed


def _share(cutoff_hz: Tensor | float, dt_s: Tensor) -> Tensor:
    """How much of the difference goes in at once."""
    turns = 2 * torch.pi * dt_s * cutoff_hz
    return turns / (1 + turns)
