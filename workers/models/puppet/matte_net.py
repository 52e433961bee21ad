"""Which pixels are a person's: MediaPipe's Selfie Segmentation, a MobileNetV3 with a decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.models.face.layers import SameConv

SIDE = 256  # of the picture that the net sees

Bend = Callable[[Tensor], Tensor]


class _Kind(NamedTuple):
    inner: int  # channels between its convolutions
    outputs: int
    size: int  # of its depthwise kernel
    stride: int
    gate: int  # channels inside its gate, or 0: it has none
    bend: Bend


# fmt: off
ENCODER = (
    _Kind(16, 16, 3, 2, 8, F.relu),  # 128² → 64²
    _Kind(72, 24, 3, 2, 0, F.relu),  # 32²
    _Kind(88, 24, 3, 1, 0, F.relu),
    _Kind(96, 32, 5, 2, 24, F.hardswish),  # 16²
    _Kind(128, 32, 5, 1, 32, F.hardswish),
    _Kind(128, 32, 5, 1, 32, F.hardswish),
    _Kind(96, 32, 5, 1, 24, F.hardswish),
    _Kind(96, 32, 5, 1, 24, F.hardswish),
)
# fmt: on
STEM = 16
DEEP = 128
SKIPS = (2, 0)  # the encoder's blocks that the decoder looks back at, then the stem


class _Gate(nn.Module):
    """What share of each channel passes, (B, C, 1, 1), by what the whole picture holds."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.squeeze = SameConv(channels, inner, 1)
        self.widen = SameConv(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.widen(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, kind: _Kind) -> None:
        super().__init__()
        self.expand = SameConv(inputs, kind.inner, 1)
        self.depthwise = SameConv(kind.inner, kind.inner, kind.size, kind.stride, kind.inner)
        self.gate = _Gate(kind.inner, kind.gate) if kind.gate else None
        self.project = SameConv(kind.inner, kind.outputs, 1)
        self._bend = kind.bend
        self._shortcut = inputs == kind.outputs and kind.stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self._bend(self.depthwise(self._bend(self.expand(x))))
        if self.gate is not None:
            y = y * self.gate(y)
        y = self.project(y)
        out: Tensor = x + y if self._shortcut else y
        return out


class _Decoder(nn.Module):
    """Twice as fine, with the encoder's picture of that size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = SameConv(inputs, outputs, 1)
        self.gate = _Gate(outputs, outputs)
        self.mix = SameConv(outputs, outputs, 1)
        self.depthwise = SameConv(outputs, outputs, 3, 1, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.reduce(F.interpolate(x, scale_factor=2, mode="bilinear"))
        x = F.relu(self.mix(skip * self.gate(skip + x) + x))
        return x + F.relu(self.depthwise(x))


class MatteNet(nn.Module):
    """(B, 3, 256, 256) in [0, 1] → (B, 1, 256, 256): how surely each pixel is a person's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 3, 2)
        widths = [STEM, *(kind.outputs for kind in ENCODER)]
        self.encoder = nn.ModuleList(
            [_Bottleneck(*it) for it in zip(widths, ENCODER, strict=False)]
        )
        self.deepen = SameConv(widths[-1], DEEP, 1)
        self.deep_gate = SameConv(widths[-1], DEEP, 1)
        skips = [*(ENCODER[at].outputs for at in SKIPS), STEM]
        self.decoder = nn.ModuleList(
            [_Decoder(*it) for it in zip([DEEP, *skips], skips, strict=False)]
        )
        self.person = nn.ConvTranspose2d(STEM, 1, 2, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.hardswish(self.stem(pictures.contiguous(memory_format=torch.channels_last)))
        seen = [x]
        for block in self.encoder:
            x = block(x)
            seen.append(x)
        gate = torch.sigmoid(self.deep_gate(x.mean((2, 3), keepdim=True)))
        x = F.relu(self.deepen(x)) * gate
        skips = [*(seen[at + 1] for at in SKIPS), seen[0]]
        for block, skip in zip(self.decoder, skips, strict=True):
            x = block(x, skip)
        return torch.sigmoid(self.person(x))
