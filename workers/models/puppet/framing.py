"""From any picture to the square that a puppet is made of: head and shoulders, the face in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.errors import ModelError
from workers.models.face import landmarks, region
from workers.models.face.mesh import LEFT_CHEEK, RIGHT_CHEEK
from workers.models.face.tracking import Tracker
from workers.models.puppet.places import CHIN, FOREHEAD
from workers.models.puppet.raster import blur

SIDE = 512  # of portrait space, in pixels
FACE = 0.36  # of the square's side, across the face
WIDEST_FACE = 0.6  # where the picture ends close around the face; what lacks then is made up
MADE_UP_BLUR = 12.0  # pixels, of what is: mirrored, and out of focus
HEIGHT = 0.47  # where the face's middle lies, from the top
TILES = (1.0, 0.6, 0.4)  # of the picture's shorter side: the detector misses what is small in it
ROUNDS = 4  # of finding the face anew in a region that fits it better
SURE = 0.5

NO_FACE = "no face was found in the portrait: choose a picture that shows one face from the front"


class Framed(NamedTuple):
    """A portrait in portrait space, and its face's points there."""

    picture: Tensor  # (3 or 4, 512, 512)
    points: Tensor  # (478, 3)


def frame_portrait(picture: Tensor, tracker: Tracker) -> Framed:
    """Head and shoulders of the one face in the picture (3 or 4, H, W).

    Raises ModelError where no face is found.
    """
    points = find_face(picture[:3], tracker)
    left, top, side = _square(points, picture.shape[-2], picture.shape[-1])
    framed = _cut(picture, left, top, side)
    points = (points - torch.tensor([left, top, 0.0])) * (SIDE / side)
    # Once more in what will be shown: its scale is another.
    return Framed(framed, _refined(framed[:3], region.around(points[None]), tracker))


def find_face(picture: Tensor, tracker: Tracker) -> Tensor:
    """The points (478, 3) of the surest face, in the picture's pixels."""
    height, width = picture.shape[-2:]
    best_score, best = 0.0, None
    for share in TILES:
        side = max(16, round(min(height, width) * share)) if share < 1 else max(height, width)
        for top in _starts(height, side):
            for left in _starts(width, side):
                tile = picture[None, :, top : top + side, left : left + side]
                found = tracker.detector(tile)
                if float(found.score) > best_score:
                    best_score = float(found.score)
                    best = found.region + torch.tensor([[left, top, 0.0, 0.0]])
        if best_score >= SURE:
            break
    if best is None or best_score < SURE:
        raise ModelError(NO_FACE)
    return _refined(picture, best, tracker)


def _refined(picture: Tensor, around: Tensor, tracker: Tracker) -> Tensor:
    for _ in range(ROUNDS):
        raw, logit = tracker.net(region.crop(picture[None], around, landmarks.SIDE))
        points = region.into_frame(raw / (landmarks.SIDE / 2) - 1, around)
        # Depth has no middle of the crop to be counted from: the net's own zero is in the head.
        points[..., 2] += around[:, None, 2]
        around = region.around(points)
    if float(logit.sigmoid()) < SURE:
        raise ModelError(NO_FACE)
    return points[0]


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin that overlap by half and end with the picture."""
    if length <= side:
        return [0]
    count = -(-(length - side) * 2 // side) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _square(points: Tensor, height: int, width: int) -> tuple[int, int, int]:
    """Left, top and side of what is shown, in whole pixels of the picture."""
    face = float((points[LEFT_CHEEK] - points[RIGHT_CHEEK]).norm())
    side = face / FACE
    if side > min(height, width):
        side = max(float(min(height, width)), face / WIDEST_FACE)
    middle = (points[CHIN, :2] + points[FOREHEAD, :2]) / 2
    middle = (middle + (points[LEFT_CHEEK, :2] + points[RIGHT_CHEEK, :2]) / 2) / 2
    left = _kept(float(middle[0]) - side / 2, side, width)
    top = _kept(float(middle[1]) - side * HEIGHT, side, height)
    return left, top, max(round(side), 16)


def _kept(start: float, side: float, length: int) -> int:
    """In the picture where it fits; else in its middle."""
    spare = length - side
    return round(min(max(start, 0.0), spare)) if spare >= 0 else round(spare / 2)


def _cut(picture: Tensor, left: int, top: int, side: int) -> Tensor:
    height, width = picture.shape[-2:]
    right, bottom = left + side, top + side
    pad = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    inner = picture[:, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    framed = _scaled(_mirrored(inner, pad))
    if not any(pad):
        return framed
    # A pixel within the picture, so that its last row does not shine through.
    real = F.pad(torch.ones_like(inner[:1, 2:, 2:]), (1, 1, 1, 1))
    real = _scaled(F.pad(real, pad))
    return torch.lerp(blur(framed, MADE_UP_BLUR), framed, real).clamp(0, 1)


def _scaled(picture: Tensor) -> Tensor:
    scaled = F.interpolate(
        picture[None], size=(SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False
    )
    return scaled[0].clamp(0, 1)


def _mirrored(picture: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    """With so much more to its left, right, top and bottom; as often mirrored as it takes."""
    height, width = picture.shape[-2:]
    rows = torch.arange(-pad[2], height + pad[3]).remainder(2 * height)
    columns = torch.arange(-pad[0], width + pad[1]).remainder(2 * width)
    rows = torch.minimum(rows, 2 * height - 1 - rows)
    columns = torch.minimum(columns, 2 * width - 1 - columns)
    return picture[:, rows][:, :, columns]
