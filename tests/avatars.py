"""Avatar models for the tests: each makes one property of the way of a frame visible."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from workers.errors import ModelError
from workers.models.api import AvatarModel, Control, Tensors

PICTURES = Path(__file__).parent / "pictures"


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


class Slow20(Slow):
    """20 ms a batch."""

    step_s = 0.020


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


class Dyed(AvatarModel):
    """The portrait's mean colour over the picture, as strong as `strength`; the right eighth is as
    bright as `neutral` in tens. A black portrait has no face."""

    controls: ClassVar = {"strength": Control(0.0, 1.0, 1.0), "neutral": Control(0.0, 10.0, 0.0)}
    portraits: ClassVar = {name: PICTURES / f"{name}.png" for name in ("rose", "sky")}

    def identity(self, portrait: Tensor) -> Tensors:
        colour = portrait.mean(dim=(1, 2))
        if not colour.any():
            raise ModelError("no face was found in the portrait: send one that shows a face")
        return {"colour": colour}

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        colour = identity["colour"][:, :, None, None].expand_as(frames)
        out = torch.lerp(frames, colour, controls["strength"][:, None, None, None])
        edge = frames.shape[3] // 8
        out[:, :, :, -edge:] = (controls["neutral"] / 10)[:, None, None, None]
        return out, {}


class DyedHeavy(Dyed):
    """With an identity of 20 MB, as a real portrait's warps and layers are."""

    def identity(self, portrait: Tensor) -> Tensors:
        return {**super().identity(portrait), "layers": torch.zeros(20, 512, 512)}


class DyedBusy(DyedHeavy):
    """And busy for 14 ms a batch: at 30 frames/s, half loaded."""

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        until_s = time.perf_counter() + 0.014
        answer = super().forward(frames, identity, state, controls, dt_s)
        while time.perf_counter() < until_s:
            pass
        return answer


class DyedAlpha(Dyed):
    """Reads alpha: its colour is the mean where the picture is opaque."""

    reads_alpha: ClassVar = True

    def identity(self, portrait: Tensor) -> Tensors:
        colours, alpha = portrait[:3], portrait[3:]
        return super().identity((colours * alpha).sum((1, 2), True) / alpha.sum())


class WrongShape(nn.Module):
    """Answers with half the picture."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames[:, :, ::2, ::2]


class Stained(Counting):
    """Counts as it does, and answers a frame darker than 30 of 255 with NaN in one value."""

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        out, new = super().forward(frames, identity, state, controls, dt_s)
        out[:, 0, 0, 0] /= (frames.mean((1, 2, 3)) > 30 / 255).to(out.dtype)
        return out, new


class Poisoned(nn.Module):
    """A dark frame is answered as by a CUDA kernel that went astray."""

    def forward(self, frames: Tensor) -> Tensor:
        if frames.mean() < 30 / 255:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return frames.clone()


class Convolutional(nn.Module):
    """An ordinary small net: down, through, up, with a skip."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, width, 5, stride=2, padding=2)
        self.through = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        deep = torch.relu(self.down(frames))
        return torch.sigmoid(self.up(deep + self.through(deep)) + frames)


class Peeking(Convolutional):
    """Looks at its own answer, which waits for the device: a CUDA graph cannot hold that."""

    def forward(self, frames: Tensor) -> Tensor:
        avatars = super().forward(frames)
        return avatars / max(1.0, avatars.mean().item())


class WholeBatches(nn.Module):
    """Takes four frames, never fewer."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.view(4, 3, *frames.shape[2:]) * 0.5


class Hoarding(nn.Module):
    """Takes 16 MB, and 0.1 s, the first time that it sees a number of rows, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Tensor] = {}

    def forward(self, frames: Tensor) -> Tensor:
        if len(frames) not in self.kept:
            self.kept[len(frames)] = torch.ones(4_000_000)
            time.sleep(0.1)
        return frames * 0.5
