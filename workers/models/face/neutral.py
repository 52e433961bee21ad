"""What a performer's face is at rest: found while they speak, smile and look around.

The face is at rest now and then in each of three bands, brows, eyes and mouth, not in all of them
at once. So each band has its own mean over time, in which a frame counts the less the more the
blendshapes say that the band does something: a softmax over time, kept as it streams, so that only
the difference from the calmest frame matters; everybody's rest has some activity. It starts from
the canonical face with its mouth closed: who begins in a smile is seen to smile.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from workers.models.api import Tensors
from workers.models.face import mesh, pose
from workers.models.face.blendshapes import NAMES
from workers.models.face.landmarks import POINTS
from workers.models.face.pose import Pose

BANDS = 3  # brows, eyes, mouth
CALM = 0.12  # of a band's activity, by which a frame counts e times less
FACING = 0.25  # radians off the camera, likewise for the head's pose
PRIOR_S, PRIOR_ACTIVITY = 0.05, 0.6  # what the canonical face counts, until somebody is calmer
# What was before counts this much at least, so that nothing jumps; for the head's pose more: who
# comes and looks around at once has not moved their home.
PACE_S = (0.2, 0.2, 0.2, 1.0)
FRESH_S, STAYS = 0.5, 0.5  # until then this much of a count stays: what was first fades faster
RISE = 0.01  # a second, of the calmest activity: one odd frame is not believed for ever
LONGEST_S = 60.0  # of calm frames: what is older fades
ASKED_S = 5.0  # what a frame counts whose performer said that this is their neutral


class Neutral(NamedTuple):
    """Of the performer, in `mesh.canonical()`'s axes and unit."""

    shape: Tensor  # (B, 478, 3), around the origin of the pose
    home: Pose  # of the head, as it is mostly held


class NeutralFinder(nn.Module):
    """Its state: `neutral`, `home`, how much each is `known`, the `calmest` activity so far, and
    the last `request`."""

    prior: Tensor
    bands: Tensor
    acts: Tensor
    pace: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prior", _at_rest(), persistent=False)
        self.register_buffer("bands", _bands(), persistent=False)
        self.register_buffer("acts", _acts(), persistent=False)
        self.register_buffer("pace", torch.tensor(PACE_S), persistent=False)

    def initial_state(self) -> Tensors:
        return {
            "neutral": self.prior.detach().clone().cpu(),
            "home": torch.zeros(7),  # rotation vector, centre, logarithm of the scale
            "known": torch.full((BANDS + 1,), PRIOR_S),
            "calmest": torch.full((BANDS,), PRIOR_ACTIVITY),
            "request": torch.zeros(()),
        }

    def forward(
        self,
        shape: Tensor,
        head: Pose,
        blendshapes: Tensor,
        found: Tensor,
        new: Tensor,
        request: Tensor,
        dt_s: Tensor,
        state: Tensors,
    ) -> tuple[Neutral, Tensors]:
        """shape (B, 478, 3): the face with its pose undone; blendshapes (B, 52).

        request (B,): a number whose every change says "this is my neutral"; found, new (B,).
        """
        held = torch.cat([pose.vector_of(head.rotation), head.centre, head.scale.log()[:, None]], 1)
        activity = blendshapes @ self.acts
        time = dt_s * found
        calmest = torch.minimum(state["calmest"] + time[:, None] * RISE, activity)
        calmest = torch.where(found[:, None], calmest, state["calmest"])
        off = held[:, :3].square().sum(1, keepdim=True) / FACING**2
        counts = torch.cat([(calmest - activity) / CALM, -off], 1).exp() * time[:, None]
        faded = ((calmest - state["calmest"]) / CALM).exp()
        before = torch.cat([state["known"][:, :BANDS] * faded, state["known"][:, BANDS:]], 1)
        rate = counts / (torch.maximum(before, self.pace) + counts)
        stays = torch.where(before < FRESH_S, STAYS, 1.0)
        known = (before + counts * stays).clamp(max=LONGEST_S)
        asked = (found & (request != state["request"]))[:, None]
        rate = torch.where(asked, torch.ones_like(rate), rate)
        known = torch.where(asked, torch.full_like(known, ASKED_S), known)
        calmest = torch.where(asked, activity, calmest)

        by_point = (rate[:, :BANDS] @ self.bands)[..., None]
        neutral = state["neutral"] + by_point * (shape - state["neutral"])
        # Where and how large a head is has no prior; which way it looks has: at the camera.
        straight = torch.cat([state["home"][:, :3], held[:, 3:]], 1)
        home = torch.where(new[:, None] & (state["home"][:, 6:] == 0), straight, state["home"])
        home = home + rate[:, BANDS:] * (held - home)
        after = {
            "neutral": neutral,
            "home": home,
            "known": known,
            "calmest": calmest,
            "request": torch.where(found, request, state["request"]),
        }
        at_home = Pose(pose.rotation_of(home[:, :3]), home[:, 6].exp(), home[:, 3:6])
        return Neutral(neutral, at_home), after


def _at_rest() -> Tensor:
    """The canonical face, whose lips are 5 mm apart, with its lips together."""
    shape = mesh.canonical_shape()
    upper, lower = list(mesh.UPPER_LIP_EDGE), list(mesh.LOWER_LIP_EDGE)
    shape[upper] = shape[lower] = (shape[upper] + shape[lower]) / 2
    return shape


def _bands() -> Tensor:
    """(3, 478), of sum 1 for each point: how much it belongs to brows, eyes and mouth."""
    shape = mesh.canonical_shape()
    height = shape[:, 1]  # grows downwards
    brow = shape[[52, 282], 1].mean()  # the brows' lower edge
    crease = shape[[27, 257], 1].mean()
    nose, lip = shape[2, 1], shape[0, 1]  # where the nose ends, where the lip begins
    brows = 1 - torch.sigmoid((height - (brow + crease) / 2) * 8)
    mouth = torch.sigmoid((height - (nose + lip) / 2) * 4)
    brows[POINTS - 10 :] = 0
    return torch.stack([brows, 1 - brows - mouth, mouth])


def _acts() -> Tensor:
    """(52, 3): which blendshapes say that a band does something."""
    # Not where the eyes look: that is not at rest in any direction.
    begins = (
        ("brow",),
        ("eyeBlink", "eyeSquint", "eyeWide", "cheekSquint", "noseSneer"),
        ("jaw", "mouth", "cheekPuff"),
    )
    return torch.tensor([[float(name.startswith(band)) for band in begins] for name in NAMES])
