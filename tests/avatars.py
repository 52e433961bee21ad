"""Avatar models for the tests: each makes one property of the way of a frame visible."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from workers.models.api import AvatarModel, Control, Tensors


class Invert(nn.Module):
    """A plain module: the negative."""

    def forward(self, frames: Tensor) -> Tensor:
        return 1.0 - frames


class Slow(nn.Module):
    """The identity function, at 60 ms a batch, whatever the batch holds."""

    step_s = 0.060

    def forward(self, frames: Tensor) -> Tensor:
        time.sleep(self.step_s)
        return frames.clone()


class Slow5(Slow):
    """5 ms a batch."""

    step_s = 0.005


class Slow80(Slow):
    """80 ms a batch: slower than a camera, with frames left out."""

    step_s = 0.080


class SlowInvert(Slow):
    """The negative, at 60 ms a batch: there is always a batch to be killed inside of."""

    def forward(self, frames: Tensor) -> Tensor:
        return 1.0 - super().forward(frames)


class Counting(AvatarModel):
    """Draws how many frames this session has had into the picture's right edge, as 8 bits of
    black and white, from the top down; a session starts from 0."""

    controls: ClassVar = {"gain": Control(0.0, 2.0, 1.0)}

    def initial_state(self) -> Tensors:
        return {"count": torch.zeros((), dtype=torch.int64)}

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        count = state["count"]
        height, width = frames.shape[2], frames.shape[3]
        row = torch.arange(height, device=frames.device) * 8 // height
        bit = (count[:, None] >> row[None, :]) & 1
        out = frames.clone()
        edge = bit[:, None, :, None].to(frames.dtype)
        out[:, :, :, width - width // 8 :] = edge.expand(-1, 3, -1, width // 8)
        return out, {"count": torch.clamp(count + 1, max=255)}


class SlowCounting(Counting):
    """Counts, at 25 ms a batch: whoever leaves has frames in flight."""

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        time.sleep(0.025)
        return super().forward(frames, identity, state, controls, dt_s)


class Tinted(AvatarModel):
    """Its identity is the portrait's mean colour, which takes the picture's place."""

    def identity(self, portrait: Tensor) -> Tensors:
        return {"colour": portrait.mean(dim=(1, 2))}

    def default_portrait(self) -> Tensor:
        portrait = torch.zeros(3, 32, 32)
        portrait[1] = 1.0
        return portrait

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        return identity["colour"][:, :, None, None].expand_as(frames).clone(), {}


class Prepared(Tinted):
    """Green by the preparer's identity, red by one that anybody else has computed."""

    def identity(self, portrait: Tensor) -> Tensors:
        by_the_preparer = Path(sys.argv[0]).name == "preparer.py"
        return super().identity(portrait if by_the_preparer else portrait.roll(1, 0))


class WrongShape(nn.Module):
    """Answers with half the picture."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames[:, :, ::2, ::2]
