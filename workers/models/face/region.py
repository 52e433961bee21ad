"""The turned square around a face: (B, 4) float32, centre x and y, half its side, its angle.

Pixels of the frame, whose corner is (0, 0); radians, clockwise as seen. Always float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.models.face.mesh import LEFT_OUTER, RIGHT_OUTER

WIDER = 1.5  # than the face: what the nets were trained with


def around(points: Tensor) -> Tensor:
    """The region of the face whose points (B, N, 3) are given in the frame's pixels."""
    eyes = points[:, LEFT_OUTER] - points[:, RIGHT_OUTER]
    angle = torch.atan2(eyes[:, 1], eyes[:, 0])
    upright = _turn(points[..., :2], -angle)
    low, high = upright.amin(1), upright.amax(1)
    centre = _turn(((low + high) / 2)[:, None], angle)[:, 0]
    half = (high - low).amax(1) * (WIDER / 2)
    return torch.cat([centre, half[:, None], angle[:, None]], 1)


def crop(frames: Tensor, region: Tensor, side: int) -> Tensor:
    """frames (B, 3, H, W) → (B, 3, side, side); beyond the frame its edge goes on."""
    height, width = frames.shape[-2:]
    steps = (torch.arange(side, device=frames.device, dtype=torch.float32) * 2 + 1) / side - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = torch.stack([x, y], -1).reshape(1, -1, 2).expand(frames.shape[0], -1, -1)
    places = into_frame(places, region).reshape(-1, side, side, 2)
    grid = torch.stack([places[..., 0] * (2 / width) - 1, places[..., 1] * (2 / height) - 1], -1)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def into_frame(places: Tensor, region: Tensor) -> Tensor:
    """Places in the region, (B, N, 2 or 3) from -1 to 1, in the frame's pixels. z is scaled too."""
    half = region[:, None, 2:3]
    flat = _turn(places[..., :2], region[:, 3]) * half + region[:, None, :2]
    return torch.cat([flat, places[..., 2:] * half], -1)


def within(region: Tensor, height: int, width: int) -> Tensor:
    """No smaller than a few pixels, no larger than twice the frame, its centre in the frame.

    So whatever a net says of a picture without a face, the next crop is of this frame.
    """
    x = region[:, 0].clamp(0, width)
    y = region[:, 1].clamp(0, height)
    half = region[:, 2].clamp(8, 2 * max(height, width))
    return torch.stack([x, y, half, region[:, 3]], 1)


def _turn(points: Tensor, angle: Tensor) -> Tensor:
    """(B, N, 2), clockwise by (B,)."""
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    x, y = points[..., 0], points[..., 1]
    return torch.stack([x * cosine - y * sine, x * sine + y * cosine], -1)
