"""What a performer does, beside what they look like: the face's motion off its neutral."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from workers.models.api import Tensors
from workers.models.face import mesh, pose
from workers.models.face.blendshapes import SEEN, BlendshapeNet
from workers.models.face.neutral import NeutralFinder
from workers.models.face.tracking import Tracker
from workers.models.face.weights import load_net

FARTHEST_CM = 4.5  # a head that leaves the picture goes this far, so that its way home is short


class Performance(NamedTuple):
    """In the canonical mesh's axes and centimetres: x right, y down, z away from the camera.

    Everything is weighed by how much the portrait shall follow: at 0 it is at rest.
    """

    turn: Tensor  # (B, 3) axis × angle, off the head's home
    shift: Tensor  # (B, 2) likewise; how far away is not seen, but for `growth`
    growth: Tensor  # (B,) logarithm of the size, likewise
    shape: Tensor  # (B, 478, 3) the face now, without its pose
    neutral: Tensor  # (B, 478, 3) the face at rest
    follow: Tensor  # (B,) from 0 to 1


class Performer(nn.Module):
    """From frames to performances, with all of the state that lies between two frames."""

    face: Tensor
    weights: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Tracker()
        self.blendshapes = load_net(BlendshapeNet, "blendshapes")
        self.finder = NeutralFinder()
        canonical = mesh.canonical()
        self.register_buffer("face", canonical.vertices[None], persistent=False)
        self.register_buffer("weights", canonical.weights, persistent=False)
        self.register_buffer("seen", torch.tensor(SEEN), persistent=False)

    def initial_state(self) -> Tensors:
        return self.tracker.initial_state() | self.finder.initial_state()

    def forward(
        self, frames: Tensor, state: Tensors, dt_s: Tensor, smoothing: Tensor, request: Tensor
    ) -> tuple[Performance, Tensors]:
        """frames (B, 3, H, W) in [0, 1]; the rest (B,).

        smoothing: 1 as designed, 0 none; request: a number whose every change says that the face
        is at rest now.
        """
        tracked, after = self.tracker(frames, state, dt_s, smoothing)
        head = pose.fit(self.face, tracked.points[:, : self.face.shape[1]], self.weights)
        shape = pose.undo(tracked.points, head)
        does = self.blendshapes(tracked.points.index_select(1, self.seen)[..., :2])
        neutral, settled = self.finder(
            shape, head, does, tracked.found, tracked.new, request, dt_s, state
        )
        follow = tracked.follow[:, None]
        turn = pose.vector_of(head.rotation @ neutral.home.rotation.transpose(1, 2))
        shift = (head.centre - neutral.home.centre)[:, :2] / neutral.home.scale[:, None]
        shift = FARTHEST_CM * torch.tanh(shift / FARTHEST_CM)
        growth = (head.scale / neutral.home.scale).log()
        # Part by part, not point by point: a mean of a turned and a straight head is a flat one.
        now = neutral.shape + follow[..., None] * (shape - neutral.shape)
        return (
            Performance(
                turn * follow,
                shift * follow,
                growth * tracked.follow,
                now,
                neutral.shape,
                tracked.follow,
            ),
            after | settled,
        )
