"""A part of a face in a frame of its own, and the window of that frame which its pictures show.

A frame's origin is the part's middle, its unit the part's width; s goes from corner to corner, as
seen from left to right, h goes down.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from workers.models.puppet.raster import sample


class Frame(NamedTuple):
    """Five tensors that broadcast with whatever is placed in it; pixels of portrait space."""

    x: Tensor
    y: Tensor
    along_x: Tensor
    along_y: Tensor
    unit: Tensor

    @classmethod
    def between(cls, left: Tensor, right: Tensor, middle: Tensor) -> Self:
        """Corners and middle (2,)."""
        across = right - left
        unit = across.norm()
        return cls(middle[0], middle[1], across[0] / unit, across[1] / unit, unit)

    @classmethod
    def of_rows(cls, frames: Tensor) -> Self:
        """(N, 5), as `row` gives them, for pictures (N, h, w)."""
        return cls(*(part[:, None, None] for part in frames.unbind(1)))

    @property
    def row(self) -> Tensor:
        """(5,)"""
        return torch.stack(list(self))

    def inside(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """From pixels to s and h."""
        x, y = (x - self.x) / self.unit, (y - self.y) / self.unit
        return x * self.along_x + y * self.along_y, y * self.along_x - x * self.along_y

    def outside(self, s: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """From s and h to pixels."""
        x = (s * self.along_x - h * self.along_y) * self.unit + self.x
        y = (s * self.along_y + h * self.along_x) * self.unit + self.y
        return x, y

    def turned(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A direction in pixels as one in the frame."""
        return self._replace(x=torch.zeros_like(x), y=torch.zeros_like(y)).inside(x, y)

    def points(self, places: Tensor) -> Tensor:
        """(N, 2) in pixels → (N, 2) in the frame."""
        return torch.stack(self.inside(places[:, 0], places[:, 1]), 1)


class Window(NamedTuple):
    """Sides in the frame's unit, and how many texels its pictures have."""

    left: float
    top: float
    right: float
    bottom: float
    wide: int
    high: int

    @property
    def texels(self) -> float:
        """In a unit across."""
        return self.wide / (self.right - self.left)

    def places(self) -> Tensor:
        """(high, wide, 2): where each texel is in the frame."""
        s = (torch.arange(self.wide) + 0.5) / self.wide * (self.right - self.left) + self.left
        h = (torch.arange(self.high) + 0.5) / self.high * (self.bottom - self.top) + self.top
        y, x = torch.meshgrid(h, s, indexing="ij")
        return torch.stack([x, y], -1)

    def cut(self, picture: Tensor, frame: Frame) -> Tensor:
        """(C, 512, 512) → (C, high, wide): what of a portrait the window shows."""
        x, y = frame.outside(*self.places().unbind(-1))
        return sample(picture, torch.stack([x, y], -1))

    def look_up(self, picture: Tensor, s: Tensor, h: Tensor) -> Tensor:
        """(C, high, wide), at places (…) of the frame: (C, …)."""
        x = (s - self.left) / (self.right - self.left) * self.wide
        y = (h - self.top) / (self.bottom - self.top) * self.high
        return sample(picture, torch.stack([x, y], -1), "bilinear")

    def normal(self, s: Tensor, h: Tensor) -> Tensor:
        """(N, h, w) each, in the frame → (N, 2, h, w) from -1 to 1 over the window."""
        x = (s - self.left) * (2 / (self.right - self.left)) - 1
        y = (h - self.top) * (2 / (self.bottom - self.top)) - 1
        return torch.stack([x, y], 1)
