"""Eyes that shut and look around, a mouth that opens, and what is seen in them.

What is behind lids and lips is painted green for it, so that it can be counted.
"""

from __future__ import annotations

import pytest
import torch
from puppets import drawn, identity, own, still
from torch import Tensor

from workers.models.face import pose
from workers.models.face.mesh import LOWER_LIP_EDGE, UPPER_LIP_EDGE
from workers.models.puppet.eyes import curves_at
from workers.models.puppet.places import LOWER

GREEN = torch.tensor([0.0, 1.0, 0.0])[:, None, None]


def painted(name: str, colours: slice) -> dict[str, Tensor]:
    picture = identity()[name].clone()
    picture[..., colours, :, :] = GREEN.to(picture.dtype)
    return {name: picture}


def green(picture: Tensor) -> Tensor:
    """(H, W): how much green there is, more than in any portrait."""
    return (picture[0, 1] - picture[0, [0, 2]].amax(0) - 0.1).clamp(min=0)


def eyes(**changed: Tensor) -> dict[str, Tensor]:
    blank = torch.zeros_like(identity()["eye_irises"])
    return painted("eye_balls", slice(0, 3)) | {"eye_irises": blank} | changed


def test_a_shut_eye_shows_nothing_of_what_is_behind() -> None:
    seen = [
        float(green(drawn(still(lids=torch.full((1, 2), lids)), **eyes())).sum())
        for lids in (0.0, 0.3, 0.6, 1.0, 1.4)
    ]

    assert seen == sorted(seen)
    assert seen[0] < 0.01 * seen[3]
    assert seen[4] > 1.2 * seen[3]


def test_a_shut_eye_shows_nothing_on_a_turned_head_either() -> None:
    rotation = pose.rotation_of(torch.tensor([[0.1, -0.25, 0.3]]))

    picture = drawn(still(lids=torch.zeros(1, 2), rotation=rotation), **eyes())

    assert float(green(picture).sum()) < 2


def test_each_eye_has_its_own_lids() -> None:
    one = green(drawn(still(lids=torch.tensor([[0.0, 1.0]])), **eyes()))

    middle = int(identity()["points"][168, 0])
    assert float(one[:, :middle].sum()) < 1 < float(one[:, middle:].sum())


def test_irises_go_where_they_look() -> None:
    irises = painted("eye_irises", slice(0, 3))["eye_irises"]
    irises[:, :3] = irises[:, :3] * irises[:, 3:]

    def middle(gaze: float) -> float:
        shown = green(drawn(still(gaze=torch.tensor([[gaze, 0.0]])), eye_irises=irises))
        return float((shown.sum(0) * torch.arange(512)).sum() / shown.sum())

    assert middle(4.0) - middle(0.0) == pytest.approx(4.0, abs=1.2)
    assert middle(-4.0) - middle(0.0) == pytest.approx(-4.0, abs=1.2)


def parted(pixels: float) -> Tensor:
    """The points with the lower lip moved down by so much."""
    points = identity()["points"].clone()[None]
    points[:, list(LOWER), 1] += pixels
    return points


def mouths() -> dict[str, Tensor]:
    parts = identity()["mouth_parts"].clone()
    parts[:3] = GREEN.to(parts.dtype)
    parts[3:] = 0
    return {"mouth_parts": parts}


def test_the_more_lips_part_the_more_is_seen_between_them() -> None:
    points = identity()["points"]
    gap = float((points[LOWER_LIP_EDGE[4]] - points[UPPER_LIP_EDGE[4]])[1])

    seen = [
        float(green(drawn(still(points=parted(by)), **mouths())).sum())
        for by in (-gap - 4, 0.0, 12.0, 24.0)
    ]

    assert seen == sorted(seen)
    assert seen[0] < 0.1 * seen[2]
    width = float((points[308] - points[78]).norm())
    assert seen[3] - seen[2] > 0.3 * 12 * width


def test_the_lower_teeth_go_with_the_jaw() -> None:
    parts = torch.zeros_like(identity()["mouth_parts"])
    parts[8, 100:110] = parts[10, 100:110] = 1.0  # a green bar, which goes with the jaw

    def height(jaw: float) -> float:
        motion = still(points=parted(40.0), jaw=torch.tensor([[0.0, jaw]]))
        shown = green(drawn(motion, mouth_parts=parts))
        return float((shown.sum(1) * torch.arange(512)).sum() / shown.sum())

    assert height(10.0) - height(0.0) == pytest.approx(10.0, abs=1.5)


def test_lids_meet_at_every_place_between_the_corners() -> None:
    s = torch.linspace(-0.5, 0.5, 21).expand(2, -1)

    curves = curves_at(own()["eye_curves"][0], s)

    assert bool((curves.upper <= curves.shut + 1e-4).all())
    assert bool((curves.shut <= curves.lower + 1e-4).all())
    assert bool((curves.brow < curves.crease).all())
    assert bool((curves.crease < curves.upper + 1e-4).all())
    assert float(curves.upper[:, [0, -1]].abs().max()) < 1e-6
