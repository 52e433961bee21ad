"""Where on a face its 478 points are, irises among them: FaceMesh V2 (Grishchenko et al., 2020)."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.models.face.layers import DepthwiseConv, SameConv, widen

SIDE = 256  # of the crop that the net sees
POINTS = 478

# A stage's channels, and its blocks' inner ones; each further stage begins by halving the picture.
STAGES = ((16, 8), (32, 16), (64, 32), (128, 64), (128, 64), (128, 64), (128, 64))
BLOCKS = 4


class _Block(nn.Module):
    """A bottleneck. Its shortcut is halved where it halves."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.squeeze = SameConv(inputs, inner, stride, stride)
        self.bend = nn.PReLU(inner)
        self.depthwise = DepthwiseConv(inner)
        self.expand = SameConv(inner, outputs, 1)
        self.bend_out = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(self.bend(self.squeeze(x))))
        if self.squeeze.stride == (2, 2):
            x = widen(F.max_pool2d(x, 2), y.shape[1])
        bent: Tensor = self.bend_out(x + y)
        return bent


class LandmarkNet(nn.Module):
    """(B, 3, 256, 256) in [0, 1] → points (B, 478, 3) in the crop's pixels (z grows away from the
    camera, as x grows), and how sure it is that this is a face (B,), a logit; float32.
    """

    def __init__(self) -> None:
        super().__init__()
        width = STAGES[0][0]
        self.stem = SameConv(3, width, 3, 2)
        self.bend = nn.PReLU(width)
        blocks: list[nn.Module] = []
        for number, (outputs, inner) in enumerate(STAGES):
            if number:
                blocks.append(_Block(width, inner, outputs, 2))
                width = outputs
            blocks += [_Block(width, inner, width, 1) for _ in range(BLOCKS)]
        self.blocks = nn.Sequential(*blocks)
        self.score = nn.Conv2d(width, 1, 2)
        self.points = nn.Conv2d(width, POINTS * 3, 2)

    def halve(self) -> Self:
        """In half precision from now on, but for its last step: there 0.1 px would be lost."""
        for part in (self.stem, self.bend, self.blocks):
            part.half()
        return self

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        x = crops.to(self.stem.weight.dtype, memory_format=torch.channels_last)
        x = self.blocks(self.bend(self.stem(x))).float()
        points: Tensor = self.points(x)
        score: Tensor = self.score(x)
        return points.reshape(-1, POINTS, 3), score.reshape(-1)
