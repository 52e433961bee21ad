"""What a face does, as 52 numbers: an MLP-Mixer over 146 of its points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The points that the net looks at, in its order (MediaPipe, face_blendshapes_graph.cc).
# fmt: off
SEEN = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66,
    67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144,
    145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173,
    176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284,
    285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332,
    334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473,
    474, 475, 476, 477,
)
NAMES = (
    "neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft",
    "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft",
    "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen",
    "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)
# fmt: on
TOKENS, WIDTH, BLOCKS = 96, 64, 4


class _Scale(nn.Module):
    """Normalises the last axis; the net has no offset there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self.weight, eps=1e-6)


class _Summary(nn.Module):
    """A token of its own, first in the row, in which the blocks gather what they found."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat([self.weight.expand(tokens.shape[0], -1, -1), tokens], 1)


class _Mixer(nn.Module):
    """Mixes first between the tokens, then between each token's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.before_tokens = _Scale()
        self.tokens_up = nn.Linear(TOKENS + 1, 384)
        self.tokens_down = nn.Linear(384, TOKENS + 1)
        self.before_channels = _Scale()
        self.channels_up = nn.Linear(WIDTH, 256)
        self.channels_down = nn.Linear(256, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        across = self.before_tokens(x).transpose(1, 2)
        x = x + self.tokens_down(F.relu(self.tokens_up(across))).transpose(1, 2)
        inside = self.channels_down(F.relu(self.channels_up(self.before_channels(x))))
        mixed: Tensor = x + inside
        return mixed


class BlendshapeNet(nn.Module):
    """Points (B, 146, 2), those of `SEEN`, in pixels of a square → (B, 52) from 0 to 1, in the
    order of `NAMES`. It takes out place and size itself, not the roll. float32, since its input is
    a difference of coordinates, and it is small.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_tokens = nn.Linear(len(SEEN), TOKENS)
        self.to_width = nn.Linear(2, WIDTH)
        self.summary = _Summary()
        self.blocks = nn.Sequential(*(_Mixer() for _ in range(BLOCKS)))
        self.out = nn.Linear(WIDTH, len(NAMES))

    def forward(self, points: Tensor) -> Tensor:
        points = points - points.mean(1, keepdim=True)
        size = points.square().sum(-1, keepdim=True).sqrt().mean(1, keepdim=True)
        tokens = self.to_tokens((points / size * 0.5).transpose(1, 2)).transpose(1, 2)
        x = self.blocks(self.summary(self.to_width(tokens)))
        return torch.sigmoid(self.out(x[:, 0]))
