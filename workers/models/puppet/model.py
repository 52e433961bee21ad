"""A portrait that follows the performer's head, eyes, brows, gaze and mouth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.models.api import AvatarModel, Control, Tensors
from workers.models.face import pose
from workers.models.face.performance import Performance, Performer
from workers.models.puppet import composite, expression, eye_parts, head, limits, mouth_parts
from workers.models.puppet.framing import frame_portrait
from workers.models.puppet.matte import matte
from workers.models.puppet.motion import Mover, Rest
from workers.models.puppet.patches import View
from workers.models.puppet.places import LEADING
from workers.models.puppet.plate import plate
from workers.models.puppet.portraits import PORTRAITS

SMALL = 320  # pixels a side, up to which textures of half the size do


class Puppet(AvatarModel):
    """Its identity is made of any picture of a face; see `framing`."""

    controls: ClassVar[Mapping[str, Control]] = {
        "expression": Control(low=0.0, high=2.0, default=1.0),
        "head": Control(low=0.0, high=2.0, default=1.0),
        "smoothing": Control(low=0.0, high=3.0, default=1.0),
        "neutral": Control(low=0.0, high=1e6, default=0.0),  # every change: my face is at rest now
    }
    portraits: ClassVar[Mapping[str, Path]] = PORTRAITS
    reads_banks: ClassVar[bool] = True
    reads_alpha: ClassVar[bool] = True

    leading: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.performer = Performer()
        self.mover = Mover()
        self.register_buffer("leading", torch.tensor(LEADING), persistent=False)

    def identity(self, portrait: Tensor) -> Tensors:
        """portrait (3 or 4, H, W) in [0, 1], the fourth its matte.

        Raises ModelError where no face is found in it.
        """
        if portrait.shape[0] == 4 and bool((portrait[3] == 1).all()):
            portrait = portrait[:3]  # it has no matte of its own
        framed = frame_portrait(portrait.float(), self.performer.tracker)
        picture, points = framed.picture[:3], framed.points
        alpha = matte(framed.picture)
        behind = plate(picture, alpha)
        through = 1 - alpha[None]
        # What of the picture is not the plate's, so that at rest the two are the picture again.
        figure = (picture - through * behind).clamp(min=0)
        figure = torch.cat([torch.minimum(figure, alpha[None]), through])
        face = self.performer.face
        at = pose.fit(face, points[None, : face.shape[1]], self.performer.weights)
        turns = head.prepare(points, alpha)
        return {
            "points": points,
            "rotation": at.rotation[0],
            "scale": at.scale[0],
            "centre": at.centre[0],
            "limits": limits.prepare(turns["terrain"], points, at.centre[0]),
            "figure": figure.half(),
            "figure_small": F.avg_pool2d(figure, 2).half(),
            "plate": behind.half(),
            "plate_small": F.avg_pool2d(behind, 2).half(),
            **turns,
            **expression.prepare(points),
            **eye_parts.prepare(picture, points),
            **mouth_parts.prepare(picture, points),
        }

    def initial_state(self) -> Tensors:
        return self.performer.initial_state()

    def forward(
        self,
        frames: Tensor,
        identity: Tensors,
        state: Tensors,
        controls: Tensors,
        dt_s: Tensor,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensors]:
        """frames (B, 3, H, W) in [0, 1] → the portrait in the same pose; see `AvatarModel`."""
        assert rows is not None, "it reads the banks"
        performance, after = self.performer(
            frames, state, dt_s, controls["smoothing"], controls["neutral"]
        )
        height, width = frames.shape[-2:]
        strengths = controls["expression"], controls["head"]
        return self.perform(performance, identity, rows, *strengths, height, width), after

    def perform(
        self,
        performance: Performance,
        identity: Tensors,
        rows: Tensor,
        expression: Tensor,
        head: Tensor,
        height: int,
        width: int,
    ) -> Tensor:
        """The portraits of these rows of the banks, (B, 3, H, W), doing what was performed."""
        view = View(height, width)
        own = _rows_of(identity, rows, small=view.side <= SMALL)
        rest = Rest(own["points"], own["rotation"], own["scale"], own["centre"], own["limits"])
        motion = self.mover(performance, rest, expression, head)
        return composite.draw(own, motion, self.leading, view)


def _rows_of(identity: Tensors, rows: Tensor, small: bool) -> Tensors:
    """What these rows need: of the pictures, the one size that will be drawn."""
    other = {"figure", "plate"} if small else {"figure_small", "plate_small"}
    return {
        name.removesuffix("_small"): bank.index_select(0, rows).float()
        for name, bank in identity.items()
        if name not in other
    }
