"""The face of each row, from frame to frame, in a fixed number of steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from workers.models.api import Tensors
from workers.models.face import landmarks, mesh, one_euro, region
from workers.models.face.detector import Detector, DetectorNet
from workers.models.face.landmarks import LandmarkNet
from workers.models.face.mesh import LEFT_CHEEK, RIGHT_CHEEK
from workers.models.face.weights import load_net

SURE = 0.5  # of either net's score, from which on there is a face
APPEARS_S, VANISHES_S = 0.25, 0.5  # until the portrait follows in full, and is at rest
RETURN_HZ = 2.5  # the cutoff for a face that returns before the portrait came to rest
LONGEST_S = 0.25  # that a frame counts for; after a longer silence everything is as new


class Tracked(NamedTuple):
    points: Tensor  # (B, 478, 3) in the frame's pixels, smoothed; the last ones of a lost face
    follow: Tensor  # (B,) from 0, at rest, to 1; smooth in time
    found: Tensor  # (B,) bool: a face in this very frame
    new: Tensor  # (B,) bool: found, after a time without any


class Tracker(nn.Module):
    """The detector runs on every frame, whether or not its answer is needed: no branch."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = Detector(load_net(DetectorNet, "detector"))
        self.net = load_net(LandmarkNet, "landmarks")

    def halve(self) -> None:
        """The nets in half precision; coordinates stay in float32."""
        self.detector.net.halve()
        self.net.halve()

    def initial_state(self) -> Tensors:
        """Nobody is there yet. The points are some face's, so that all that follows is finite."""
        return {
            "region": torch.zeros(4),
            "score": torch.zeros(()),
            "presence": torch.zeros(()),
            "points": mesh.canonical_shape(),
            "speed": torch.zeros(landmarks.POINTS, 3),
        }

    def forward(
        self, frames: Tensor, state: Tensors, dt_s: Tensor, smoothing: Tensor
    ) -> tuple[Tracked, Tensors]:
        """frames (B, 3, H, W) in [0, 1]; dt_s, smoothing (B,): see `one_euro`."""
        height, width = frames.shape[-2:]
        dt_s = dt_s.clamp(0, LONGEST_S)
        seen = self.detector(frames)
        lost = state["score"] < SURE
        place = torch.where(lost[:, None], seen.region, state["region"])
        place = region.within(place, height, width)
        raw, logit = self.net(region.crop(frames, place, landmarks.SIDE))
        points = region.into_frame(raw / (landmarks.SIDE / 2) - 1, place)
        score = logit.sigmoid()
        # The landmarks' net sees faces in much that the detector would never look at.
        score = torch.where(lost & (seen.score < SURE), torch.zeros_like(score), score)
        found = score >= SURE

        presence = state["presence"]
        new = found & (presence <= 0)
        size = (points[:, LEFT_CHEEK] - points[:, RIGHT_CHEEK]).norm(dim=1)
        smoothed, speed = one_euro.smooth(
            points,
            state["points"],
            state["speed"],
            dt_s,
            size,
            smoothing,
            most_hz=RETURN_HZ / (1 - presence).clamp(min=1e-3),
        )
        # A lost face's points stay, while the portrait eases to rest; a new one's are taken as
        # they are, while it is at rest.
        smoothed = _choose(new, points, _choose(found, smoothed, state["points"]))
        speed = _choose(found & ~new, speed, torch.zeros_like(speed))
        change = torch.where(found, dt_s / APPEARS_S, -dt_s / VANISHES_S)
        presence = (presence + change).clamp(0, 1)
        follow = presence * presence * (3 - 2 * presence)
        after = {
            "region": region.within(region.around(points), height, width),
            "score": score,
            "presence": presence,
            "points": smoothed,
            "speed": speed,
        }
        return Tracked(smoothed, follow, found, new), after


def _choose(which: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(which[:, None, None], one, other)
