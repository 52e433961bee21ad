"""How a portrait moves when a performer does: the same face's motion, by its own proportions.

`Mover()(performance, rest, expression, head)` gives a `Motion`; it is a module only because its
indices must lie on the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from workers.models.face import mesh, pose
from workers.models.face.performance import Performance

CHEEKS = (mesh.LEFT_CHEEK, mesh.RIGHT_CHEEK)
MOUTH_CORNERS = (61, 291)
NOSE_BASE, CHIN = 2, 152
# Above the upper lids, from the outer corner to the inner one; what a closing lid draws along.
RIGHT_CREASE = (247, 30, 29, 27, 28, 56, 190)
LEFT_CREASE = (467, 260, 259, 257, 258, 286, 414)
CREASE_FOLLOWS = (0.2, 0.4, 0.5, 0.5, 0.5, 0.4, 0.2)
JAW = (17, 18, 200, 199)  # from the lower lip down: what the lower teeth go with

SHUT = 0.37  # of its gap at rest, which the net still sees on an eye that is shut
WIDEST = 1.45
LID_SLOPE = 0.8  # of how open an eye is, around rest
MEET = 0.18  # from the lower lid up to the upper one: where they meet
GAZE_LIMIT = (0.22, 0.12)  # of the eye's width: as far as an iris goes
PROPORTIONS = (0.6, 1.6)  # between which a portrait's parts are held for larger than a performer's
# Of pitch, yaw and roll: what the limits take, and the picture flattens. At 1.8 another net than
# ours sees 0.8 to 1.2 of a performer's nod in the four portraits, at 1.3 it was 0.6 to 0.9.
TURN_GAIN = (1.8, 1.2, 1.0)
GROWTH_GAIN, GROWTH_LIMIT = 0.6, 0.12  # of the logarithm of the size
SHIFT_LIMIT = 0.3  # of the face's width


class Rest(NamedTuple):
    """A portrait as it was painted, in pixels of its square of 512."""

    points: Tensor  # (B, 478, 3)
    rotation: Tensor  # (B, 3, 3) of the canonical mesh into the portrait
    scale: Tensor  # (B,) pixels for a canonical centimetre
    centre: Tensor  # (B, 3) of the pose
    limits: Tensor  # (B, 2, 3) the most axis × angle that it bears, the positive and negative way


class Motion(NamedTuple):
    """Off that rest; a performer at rest, or strengths of 0, move nothing."""

    points: Tensor  # (B, 478, 3) the portrait's, with the expression, before the head turns
    rotation: Tensor  # (B, 3, 3) of the head about its centre
    growth: Tensor  # (B,) factor of the size
    shift: Tensor  # (B, 2) pixels
    lids: Tensor  # (B, 2) right and left: 0 shut, 1 as in the portrait, more: wide
    gaze: Tensor  # (B, 2) pixels, of both irises, before the head turns
    jaw: Tensor  # (B, 2) pixels, of the lower teeth, before the head turns


class Mover(nn.Module):
    upper_lids: Tensor
    lower_lids: Tensor
    creases: Tensor
    corners: Tensor
    irises: Tensor
    upper_lip: Tensor
    lower_lip: Tensor
    jaw: Tensor
    moving: Tensor
    mouth: Tensor
    crease_follows: Tensor
    gaze_limit: Tensor
    turn_gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        indices = {
            "upper_lids": mesh.RIGHT_UPPER_LID + mesh.LEFT_UPPER_LID,
            "lower_lids": mesh.RIGHT_LOWER_LID + mesh.LEFT_LOWER_LID,
            "creases": RIGHT_CREASE + LEFT_CREASE,
            "corners": (mesh.RIGHT_OUTER, mesh.RIGHT_INNER, mesh.LEFT_OUTER, mesh.LEFT_INNER),
            "irises": tuple(range(mesh.RIGHT_IRIS, mesh.LEFT_IRIS + 5)),
            "upper_lip": mesh.UPPER_LIP_EDGE,
            "lower_lip": mesh.LOWER_LIP_EDGE,
            "jaw": JAW,
        }
        for name, places in indices.items():
            self.register_buffer(name, torch.tensor(places), persistent=False)
        shape = mesh.canonical_shape()
        self.register_buffer("moving", _moving(shape), persistent=False)
        self.register_buffer("mouth", _mouth(shape), persistent=False)
        follows = torch.tensor(CREASE_FOLLOWS)[:, None]
        self.register_buffer("crease_follows", follows, persistent=False)
        self.register_buffer("gaze_limit", torch.tensor(GAZE_LIMIT), persistent=False)
        self.register_buffer("turn_gain", torch.tensor(TURN_GAIN), persistent=False)

    def forward(
        self, performance: Performance, rest: Rest, expression: Tensor, head: Tensor
    ) -> Motion:
        """expression, head (B,): the strengths, 1 as the performer does it, 0 at rest."""
        # The portrait without its pose: here it and the performer have the same axes.
        face = pose.undo(rest.points, pose.Pose(rest.rotation, rest.scale, rest.centre))
        moves = self._carried(performance, face) * expression[:, None, None]
        lids = self._lids(performance, expression)
        moves = self._with_lids(moves, face, lids)
        moves = self._with_lips_apart(moves, face)
        gaze = self._gaze(performance, face, lids) * expression[:, None]
        moves = moves.index_copy(1, self.irises, gaze[:, None].expand(-1, len(self.irises), -1))
        jaw = moves.index_select(1, self.jaw).mean(1)

        def painted(offsets: Tensor) -> Tensor:
            return offsets @ rest.rotation.transpose(1, 2) * rest.scale[:, None, None]

        inner = painted(torch.stack([gaze, jaw], 1))[..., :2]
        turn = _limited(
            performance.turn * self.turn_gain * head[:, None], rest.limits[:, 0], rest.limits[:, 1]
        )
        growth = performance.growth * (GROWTH_GAIN * head)
        growth = (GROWTH_LIMIT * torch.tanh(growth / GROWTH_LIMIT)).exp()
        farthest = (SHIFT_LIMIT * rest.scale * _between(face, *CHEEKS)).clamp(min=1)[:, None]
        shift = performance.shift * (rest.scale * head)[:, None]
        return Motion(
            points=rest.points + painted(moves),
            rotation=pose.rotation_of(turn),
            growth=growth,
            shift=farthest * torch.tanh(shift / farthest),
            lids=lids,
            gaze=inner[:, 0],
            jaw=inner[:, 1],
        )

    def _carried(self, performance: Performance, face: Tensor) -> Tensor:
        """How far each of the portrait's points goes, (B, 478, 3), in canonical centimetres."""
        neutral = performance.neutral
        wide = _proportion(face, neutral, *CHEEKS)
        mouth_wide = _proportion(face, neutral, *MOUTH_CORNERS)
        low = _proportion(face, neutral, NOSE_BASE, CHIN)
        everywhere = wide[:, None].expand(-1, 3)
        at_mouth = torch.stack([mouth_wide, low, mouth_wide], 1)
        gain = everywhere[:, None] + self.mouth * (at_mouth - everywhere)[:, None]
        return (performance.shape - neutral) * self.moving * gain

    def _lids(self, performance: Performance, expression: Tensor) -> Tensor:
        """How open the right and the left eye are, (B, 2)."""
        ratio = self._gaps(performance.shape) / self._gaps(performance.neutral).clamp(min=1e-2)
        return _openness((1 - ratio) * expression[:, None] / (1 - SHUT))

    def _gaps(self, shape: Tensor) -> Tensor:
        """Between the lids, by the eye's width, (B, 2)."""
        upper = self._eyes(shape, self.upper_lids)[..., 1]
        lower = self._eyes(shape, self.lower_lids)[..., 1]
        return (lower - upper)[..., 1:6].mean(2) / self._eye_widths(shape)

    def _with_lids(self, moves: Tensor, face: Tensor, lids: Tensor) -> Tensor:
        """The lids' edges at the same share of their way for every face; the creases half."""
        upper, lower = (self._eyes(face, it) for it in (self.upper_lids, self.lower_lids))
        meet = lower + MEET * (upper - lower)
        corners = self._eyes(moves, self.corners).mean(2, keepdim=True)
        closing = 1 - lids[:, :, None, None]
        upper_moves = corners + (meet - upper) * closing
        lower_moves = corners + (meet - lower) * closing
        # By the middle of the lid, where it goes farthest.
        drawn = ((meet - upper) * closing)[:, :, 1:6].mean(2, keepdim=True) * self.crease_follows
        moves = moves.index_copy(1, self.upper_lids, upper_moves.flatten(1, 2))
        moves = moves.index_copy(1, self.lower_lids, lower_moves.flatten(1, 2))
        return moves.index_add(1, self.creases, drawn.flatten(1, 2))

    def _with_lips_apart(self, moves: Tensor, face: Tensor) -> Tensor:
        """The inner edges of the lips may meet, not cross."""
        gap = (face.index_select(1, self.lower_lip) - face.index_select(1, self.upper_lip))[..., 1]
        change = moves.index_select(1, self.lower_lip) - moves.index_select(1, self.upper_lip)
        # Where they cross in the portrait already, by the net's error, they stay as they are.
        crossed = (gap.clamp(max=0) - (gap + change[..., 1])).clamp(min=0) / 2
        back = torch.stack([torch.zeros_like(crossed), crossed, torch.zeros_like(crossed)], -1)
        return moves.index_add(1, self.lower_lip, back).index_add(1, self.upper_lip, -back)

    def _gaze(self, performance: Performance, face: Tensor, lids: Tensor) -> Tensor:
        """How far both irises go, (B, 3), in canonical centimetres."""
        offset = self._looks(performance.shape) - self._looks(performance.neutral)
        # The net guesses where the iris of a shut eye is; at the end nobody sees it.
        open_ = lids.clamp(0, 1)[..., None]
        offset = (offset * open_).sum(1) / open_.sum(1).clamp(min=1)
        offset = self.gaze_limit * torch.tanh(offset / self.gaze_limit)
        width = self._eye_widths(face).mean(1, keepdim=True)
        return torch.cat([offset * width, torch.zeros_like(width)], 1)

    def _looks(self, shape: Tensor) -> Tensor:
        """Each iris's place off the middle of its eye's corners, by its width, (B, 2, 2)."""
        middles = self._eyes(shape, self.corners).mean(2)
        irises = self._eyes(shape, self.irises)[:, :, 0]
        return ((irises - middles) / self._eye_widths(shape)[..., None])[..., :2]

    def _eye_widths(self, shape: Tensor) -> Tensor:
        """(B, 2), between the corners."""
        outer, inner = self._eyes(shape, self.corners).unbind(2)
        width: Tensor = (outer - inner).norm(dim=2)
        return width.clamp(min=1e-2)

    def _eyes(self, shape: Tensor, indices: Tensor) -> Tensor:
        """(B, 2, N, 3): these points of the right and of the left eye."""
        return shape.index_select(1, indices).reshape(shape.shape[0], 2, -1, 3)


def _between(shape: Tensor, one: int, other: int) -> Tensor:
    distance: Tensor = (shape[:, one] - shape[:, other]).norm(dim=1)
    return distance


def _proportion(face: Tensor, neutral: Tensor, one: int, other: int) -> Tensor:
    """How much larger the portrait's part is than the performer's, (B,)."""
    ratio = _between(face, one, other) / _between(neutral, one, other).clamp(min=1e-2)
    return ratio.clamp(*PROPORTIONS)


def _openness(closing: Tensor) -> Tensor:
    """From 1 at rest (0) to 0 where a lid has gone all of its way (1), and up to `WIDEST` where it
    went the other way: smooth, and flat at both ends."""
    down = closing.clamp(0, 1)
    # The cubic that leaves rest at the slope at which the upper part reaches it.
    shut = down * (LID_SLOPE + down * (3 - 2 * LID_SLOPE + down * (LID_SLOPE - 2)))
    room = WIDEST - 1
    return 1 - shut + room * torch.tanh(closing.clamp(max=0) * (-LID_SLOPE / room))


def _limited(value: Tensor, most: Tensor, least: Tensor) -> Tensor:
    limit = torch.where(value > 0, most, least)
    return limit * torch.tanh(value / limit)


def _moving(shape: Tensor) -> Tensor:
    """(478, 1): how much of a point's motion is expression. On the skull's outline it is none:
    the net marks the head's edge there, which is another part of the skin at each turn."""
    height = shape[:, 1]
    outline = torch.zeros(len(shape))
    outline[list(mesh.OVAL)] = 1
    above = torch.sigmoid((shape[NOSE_BASE, 1] - height) * 2)
    return (1 - outline * above)[:, None]


def _mouth(shape: Tensor) -> Tensor:
    """(478, 1): how much a point belongs to the mouth, whose proportions it then moves by."""
    middle = shape[[mesh.UPPER_LIP, mesh.LOWER_LIP]].mean(0)
    away = (shape - middle)[:, :2] / torch.tensor([4.0, 2.5])
    return (-away.square().sum(1).square()).exp()[:, None]
