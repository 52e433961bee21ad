"""The edges of the model: I420 to RGB before it, RGB to I420 behind it.

BT.601 in limited range (Recommendation ITU-R BT.601-7, sections 2.5.1 to 2.5.3). With R, G and B
in [0, 1]: E'Y = 0.299 R + 0.587 G + 0.114 B, E'CB = (B - E'Y) / 1.772, E'CR = (R - E'Y) / 1.402;
Y = 16 + 219 E'Y, CB = 128 + 224 E'CB, CR = 128 + 224 E'CR.

A chroma sample stands for its four pixels: repeated before the model, their mean behind it, so
that a picture which the model leaves alone comes out bit for bit.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from workers.geometry import Geometry
from workers.swscale import NoSwscale, Planar

RED, BLUE = 0.299, 0.114
GREEN = 1 - RED - BLUE
RED_SPAN, BLUE_SPAN = 2 * (1 - RED), 2 * (1 - BLUE)  # 1.402, 1.772


class ColourEdge(Protocol):
    """i420: (B, H * 3 // 2, W) uint8, contiguous; rgb: (B, 3, H, W), R before G before B."""

    def to_rgb(self, i420: Tensor, rgb: Tensor) -> None:
        """Fills rgb, float32 and contiguous, with values in [0, 1]."""

    def to_i420(self, rgb: Tensor, i420: Tensor) -> None:
        """Fills i420 from rgb of any floating dtype and layout, clamped to [0, 1]."""


class TensorEdge:
    """Tensor operations of constant shape on any device; a CUDA graph may hold them."""

    def __init__(self, geometry: Geometry) -> None:
        self._height, self._width = geometry.height, geometry.width

    def to_rgb(self, i420: Tensor, rgb: Tensor) -> None:
        y, chroma = self._planes(i420)
        luma = y.to(rgb.dtype).sub_(16).div_(219)
        differences = interpolate(chroma.to(rgb.dtype).sub_(128).div_(224), scale_factor=2)
        blue, red = differences[:, 0], differences[:, 1]
        torch.add(luma, red, alpha=RED_SPAN, out=rgb[:, 0])
        torch.add(luma, blue, alpha=-BLUE_SPAN * BLUE / GREEN, out=rgb[:, 1])
        rgb[:, 1].sub_(red, alpha=RED_SPAN * RED / GREEN)
        torch.add(luma, blue, alpha=BLUE_SPAN, out=rgb[:, 2])
        rgb.clamp_(0, 1)

    def to_i420(self, rgb: Tensor, i420: Tensor) -> None:
        y, chroma = self._planes(i420)
        clamped = rgb.to(torch.float32).clamp(0, 1)
        red, green, blue = clamped[:, 0], clamped[:, 1], clamped[:, 2]
        luma = red.mul(RED).add_(green, alpha=GREEN).add_(blue, alpha=BLUE)
        differences = torch.stack(
            (blue.sub(luma).div_(BLUE_SPAN), red.sub(luma).div_(RED_SPAN)), dim=1
        )
        # A cast to uint8 cuts off, so the half makes it round.
        y.copy_(luma.mul_(219).add_(16.5))
        chroma.copy_(avg_pool2d(differences, 2).mul_(224).add_(128.5))

    def _planes(self, i420: Tensor) -> tuple[Tensor, Tensor]:
        """Views: Y (B, H, W), and CB and CR (B, 2, H / 2, W / 2)."""
        flat = i420.view(len(i420), -1)
        pixels = self._height * self._width
        luma = flat[:, :pixels].view(-1, self._height, self._width)
        return luma, flat[:, pixels:].view(-1, 2, self._height // 2, self._width // 2)


class SwscaleEdge:
    """libswscale on a CPU, frame by frame. Raises NoSwscale where there is none."""

    def __init__(self, geometry: Geometry, most: int) -> None:
        """most: the frames of the largest batch."""
        self._planar = Planar(geometry)
        shape = (most, 3, geometry.height, geometry.width)
        self._straight = torch.empty(shape, dtype=torch.float32)

    def to_rgb(self, i420: Tensor, rgb: Tensor) -> None:
        assert rgb.is_contiguous() and i420.is_contiguous() and rgb.dtype == torch.float32
        for frame, picture in zip(i420, rgb, strict=True):
            self._planar.to_rgb(frame.data_ptr(), picture.data_ptr())

    def to_i420(self, rgb: Tensor, i420: Tensor) -> None:
        assert i420.is_contiguous()
        if rgb.dtype != torch.float32 or not rgb.is_contiguous():
            rgb = self._straight[: len(rgb)].copy_(rgb)
        for picture, frame in zip(rgb, i420, strict=True):
            self._planar.to_i420(picture.data_ptr(), frame.data_ptr())


def edge_for(device: torch.device, geometry: Geometry, most: int) -> ColourEdge:
    """The one that serves this device best; `most`: the frames of the largest batch."""
    if device.type != "cpu":
        return TensorEdge(geometry)
    try:
        return SwscaleEdge(geometry, most)
    except NoSwscale:
        return TensorEdge(geometry)
