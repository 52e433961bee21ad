"""Convolutions that pad as TensorFlow does, since the weights were trained so."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv(nn.Conv2d):
    """`padding="SAME"`, for even inputs: at stride 2 what is odd goes right and below."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, size, stride, groups=groups)
        total = size - stride
        self._before, self._after = total // 2, total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        before, after = self._before, self._after
        if before != after:
            x = F.pad(x, (before, after, before, after))
            return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return F.conv2d(x, self.weight, self.bias, self.stride, before, groups=self.groups)


class DepthwiseConv(nn.Conv2d):
    """3×3, each channel by itself, padded as `SameConv` is; it adds nothing."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, channels, 3, stride, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1):
            return F.conv2d(x, self.weight, None, 1, 1, groups=self.groups)
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, None, 2, groups=self.groups)


def widen(x: Tensor, channels: int) -> Tensor:
    """Channels of zeros behind, so that a shortcut may meet a wider block."""
    extra = channels - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, 0, extra)) if extra else x
