"""Where in the picture a face is: BlazeFace, the short-range one (Bazarevsky et al., 2019)."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.models.face.layers import DepthwiseConv, SameConv, widen
from workers.models.face.region import WIDER

SIDE = 128  # of the picture that the net sees
KEYPOINTS = 6  # right eye, left eye, nose, mouth, right ear, left ear
FINE, COARSE = (16, 2), (8, 6)  # cells a side, anchors a cell

# Channels of the blocks; the first of each further stage halves the picture.
STEM = 24
STAGES = ((24, 28), (32, 36, 42), (48, 56, 64, 72, 80, 88), (96, 96, 96, 96, 96))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(inputs, stride)
        self.pointwise = SameConv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(self.depthwise(x))
        if self.depthwise.stride == (2, 2):
            x = F.max_pool2d(x, 2)
        return F.relu(y + widen(x, y.shape[1]))


class DetectorNet(nn.Module):
    """(B, 3, 128, 128) in [-1, 1] → boxes (B, 896, 16) in the net's pixels from each anchor's
    centre (centre, size, keypoints), and scores (B, 896) as logits; float32, whatever runs inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 5, 2)
        blocks: list[list[nn.Module]] = []
        width = STEM
        for number, stage in enumerate(STAGES):
            blocks.append([])
            for place, outputs in enumerate(stage):
                blocks[-1].append(_Block(width, outputs, 2 if number and place == 0 else 1))
                width = outputs
        self.fine = nn.Sequential(*blocks[0], *blocks[1], *blocks[2])
        self.coarse = nn.Sequential(*blocks[3])
        fine, coarse = STAGES[2][-1], STAGES[3][-1]
        self.fine_scores = SameConv(fine, FINE[1], 1)
        self.coarse_scores = SameConv(coarse, COARSE[1], 1)
        self.fine_boxes = SameConv(fine, FINE[1] * 16, 1)
        self.coarse_boxes = SameConv(coarse, COARSE[1] * 16, 1)

    def halve(self) -> Self:
        """In half precision from now on, but for its last step."""
        for part in (self.stem, self.fine, self.coarse):
            part.half()
        return self

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = pictures.to(self.stem.weight.dtype, memory_format=torch.channels_last)
        fine = self.fine(F.relu(self.stem(x)))
        coarse = self.coarse(fine)

        fine, coarse = fine.float(), coarse.float()

        def rows(x: Tensor, size: int) -> Tensor:
            return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, size)

        boxes = [rows(self.fine_boxes(fine), 16), rows(self.coarse_boxes(coarse), 16)]
        scores = [rows(self.fine_scores(fine), 1), rows(self.coarse_scores(coarse), 1)]
        return torch.cat(boxes, 1), torch.cat(scores, 1)[..., 0]


class Found(NamedTuple):
    region: Tensor  # (B, 4), see `region`
    score: Tensor  # (B,), from 0 to 1


class Detector(nn.Module):
    """The one face of a picture that the net is surest of."""

    anchors: Tensor

    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("anchors", _anchors(), persistent=False)

    def forward(self, frames: Tensor) -> Found:
        """frames (B, 3, H, W) in [0, 1]."""
        height, width = frames.shape[-2:]
        side = max(height, width)
        left, top = (side - width) // 2, (side - height) // 2
        square = F.pad(frames, (left, side - width - left, top, side - height - top))
        # The mean of what a pixel covers, not bilinear samples: small faces keep their shape.
        boxes, scores = self.net(F.adaptive_avg_pool2d(square, SIDE) * 2 - 1)
        best = scores.argmax(1)
        box = boxes.gather(1, best[:, None, None].expand(-1, 1, 16))[:, 0] / SIDE
        anchor = self.anchors.index_select(0, best)
        centre = (box[:, 0:2] + anchor) * side
        angle = torch.atan2(box[:, 7] - box[:, 5], box[:, 6] - box[:, 4])  # between the eyes
        half = box[:, 2:4].amax(1) * (side * WIDER / 2)
        region = torch.stack([centre[:, 0] - left, centre[:, 1] - top, half, angle], 1)
        score = scores.gather(1, best[:, None])[:, 0].sigmoid()
        return Found(region, score)


def _anchors() -> Tensor:
    """(896, 2): each anchor's centre, x and y in [0, 1], in the order of the net's rows."""
    found = []
    for cells, count in (FINE, COARSE):
        centre = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        found.append(torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(count, 0))
    return torch.cat(found)
