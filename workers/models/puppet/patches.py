"""Squares of a frame's own pixels that go with a part of the face."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from workers.models.puppet.field import sample
from workers.models.puppet.framing import SIDE


class View(NamedTuple):
    """What of the square portrait a frame shows: its middle, as large as covers the frame."""

    height: int
    width: int

    @property
    def side(self) -> int:
        """Of the whole portrait, in the frame's pixels."""
        return max(self.height, self.width)

    @property
    def top(self) -> int:
        return (self.side - self.height) // 2

    @property
    def left(self) -> int:
        return (self.side - self.width) // 2

    def places(self, like: Tensor) -> Tensor:
        """(1, 2, H, W): where the frame's pixels are in the portrait, from -1 to 1."""
        steps = torch.arange(self.side, device=like.device, dtype=torch.float32)
        steps = (steps * 2 + 1) / self.side - 1
        y, x = torch.meshgrid(
            steps[self.top : self.top + self.height],
            steps[self.left : self.left + self.width],
            indexing="ij",
        )
        return torch.stack([x, y])[None]


class Patches(NamedTuple):
    """n patches of h × w pixels, all in the frame; they may overlap."""

    at: Tensor  # (B, n h w) int64: which pixels, counted row by row
    places: Tensor  # (B, 2, n h, w): where in the portrait, from -1 to 1

    @classmethod
    def around(cls, middles: Tensor, share: float, view: View) -> Self:
        """middles (B, n, 2) in portrait space; share: of the portrait's side, what one covers."""
        size = round(share * view.side)
        high, wide = min(size, view.height), min(size, view.width)
        corners = middles * (view.side / SIDE)
        left = (corners[..., 0] - view.left - wide / 2).round().clamp(0, view.width - wide)
        top = (corners[..., 1] - view.top - high / 2).round().clamp(0, view.height - high)
        across = torch.arange(wide, device=middles.device)
        down = torch.arange(high, device=middles.device)[:, None]
        x = (left.long()[..., None, None] + across).expand(-1, -1, high, -1)
        y = (top.long()[..., None, None] + down).expand(-1, -1, -1, wide)
        scale = 2 / view.side
        places = torch.stack(
            [
                (x.flatten(1, 2) + (view.left + 0.5)) * scale - 1,
                (y.flatten(1, 2) + (view.top + 0.5)) * scale - 1,
            ],
            1,
        )
        return cls((y * view.width + x).flatten(1), places)

    def take(self, picture: Tensor) -> Tensor:
        """Their pixels of (B, 3, H, W): (B, 3, n h w)."""
        return picture.flatten(2).gather(2, self.at[:, None].expand(-1, 3, -1))

    def go(self, ways: Tensor) -> Tensor:
        """Where `composite.ways` lead from them: (B, 6, n h, w), in pixels of portrait space."""
        places = sample(ways, self.places) + self.places.repeat(1, 3, 1, 1)
        return (places + 1) * (SIDE / 2)
