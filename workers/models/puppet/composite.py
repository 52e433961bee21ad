"""One picture of its layers: the figure over what is behind it, its eyes and mouth put into it.

The whole figure is drawn with the upper field; eyes and mouth are drawn once more, in patches that
go with them. A patch adds only what it changes, so that patches may overlap.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.models.api import Tensors
from workers.models.puppet import expression, eyes, head, mouth
from workers.models.puppet.field import Box, sample
from workers.models.puppet.framing import SIDE
from workers.models.puppet.head import Turn
from workers.models.puppet.motion import Motion
from workers.models.puppet.patches import Patches, View
from workers.models.puppet.places import EYE_CORNERS, LIP_MIDDLES

EYE_PATCH = 0.28  # of the picture's side, which any eye fits that a portrait may have
MOUTH_PATCH = 0.44


def draw(identity: Tensors, motion: Motion, leading: Tensor, view: View) -> Tensor:
    """(B, 3, H, W) in [0, 1]. leading (N,): the indices `places.LEADING`."""
    turn = Turn(identity["centre"], motion.rotation, motion.growth, motion.shift)
    there = ways(identity, motion, turn, leading)
    picture, figure = _whole(identity, there, view), identity["figure"]
    pairs = [_middle(motion, *pair) for pair in EYE_CORNERS]
    parts = (
        (eyes, Patches.around(_seen(turn, pairs), EYE_PATCH, view)),
        (mouth, Patches.around(_seen(turn, [_middle(motion, *LIP_MIDDLES)]), MOUTH_PATCH, view)),
    )
    added = [
        part.changes(identity, motion, figure, patches.take(picture), patches.go(there))
        for part, patches in parts
    ]
    at = torch.cat([patches.at for _, patches in parts], 1)[:, None].expand(-1, 3, -1)
    whole = picture.flatten(2).scatter_add(2, at, torch.cat(added, 2))
    return whole.view_as(picture).clamp(0, 1)


def ways(identity: Tensors, motion: Motion, turn: Turn, leading: Tensor) -> Tensor:
    """From each cell of a coarse picture to where what lies in it came from: (B, 6, g, g).

    x and y, from -1 to 1 over the portrait: in the portrait whose face moved and whose head did
    not; before the face moved, by the upper field; likewise, by the lower one.
    """
    own = head.own_cells(identity["terrain"])
    rest = head.unturned(identity["terrain"], turn)
    moved = (motion.points - identity["points"]).index_select(1, leading)[..., :2]
    back = expression.fields(identity, moved)
    box = Box(identity["face_box"][:, 0], identity["face_box"][:, 1])
    off = sample(back, box.normal(rest), "zeros")
    to_rest = rest - own
    return torch.cat([to_rest, off + to_rest.repeat(1, 2, 1, 1)], 1) * (2 / SIDE)


def _whole(identity: Tensors, there: Tensor, view: View) -> Tensor:
    size = (view.side, view.side)
    way = F.interpolate(there[:, 2:4], size=size, mode="bilinear", align_corners=False)
    rows = slice(view.top, view.top + view.height)
    columns = slice(view.left, view.left + view.width)
    places = way[:, :, rows, columns] + view.places(way)
    # Cubic: linear samples between the pixels would blur the portrait by a third.
    figure = sample(identity["figure"], places, between="bicubic")
    plate = identity["plate"]
    if plate.shape[-1] != view.side:
        plate = F.interpolate(plate, size=size, mode="bilinear", align_corners=False)
    # The fourth channel says how much of the plate shows.
    return torch.addcmul(figure[:, :3], figure[:, 3:], plate[:, :, rows, columns])


def _middle(motion: Motion, one: int, other: int) -> Tensor:
    return (motion.points[:, one] + motion.points[:, other]) / 2


def _seen(turn: Turn, points: list[Tensor]) -> Tensor:
    """Points of the head at rest, n of (B, 3), where they are seen: (B, n, 2)."""
    flat = torch.stack(points, 2)
    return head.turned(turn, flat[:, :2], flat[:, 2:]).transpose(1, 2)
