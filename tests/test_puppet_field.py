"""Splines through points, their inverse, and the fields of a face that are made of them."""

from __future__ import annotations

import torch
from puppets import identity, own

from workers.models.face.mesh import LOWER_LIP_EDGE, UPPER_LIP_EDGE
from workers.models.puppet import expression, field
from workers.models.puppet.places import LEADING, LOWER, UPPER

POINTS = torch.rand(20, 2, generator=torch.Generator().manual_seed(1))


def test_a_spline_moves_its_points_as_told() -> None:
    moves = torch.randn(20, 2, generator=torch.Generator().manual_seed(2)).double()
    solved = field.solved(POINTS, torch.arange(20))

    moved = field.kernel(POINTS, POINTS) @ (solved @ moves)

    assert torch.allclose(moved, moves, atol=1e-3)


def test_a_point_that_is_not_chosen_has_no_say() -> None:
    moves = torch.zeros(20, 2).double()
    moves[0] = 5
    solved = field.solved(POINTS, torch.arange(1, 20))

    assert float((field.kernel(POINTS, POINTS) @ (solved @ moves)).abs().max()) == 0


def test_what_a_field_moves_its_inverse_brings_back() -> None:
    steps = (torch.arange(32) + 0.5) / 32
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    bump = torch.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.02)
    ahead = torch.stack([bump * 6, bump * -4])[None]
    step = torch.full((1, 2), 32.0)  # a picture of 64 pixels

    back = field.invert(ahead, step, steps=12)

    own_places = torch.stack([x, y])[None] * 2 - 1
    there = field.sample(ahead, own_places + back / 32)
    assert float((there + back).abs().max()) < 0.1


def test_a_face_at_rest_moves_nothing() -> None:
    back = expression.fields(own(), torch.zeros(1, len(LEADING), 2))

    assert float(back.abs().max()) == 0


def test_neither_field_knows_the_other_s_lip() -> None:
    moved = torch.zeros(2, len(LEADING), 2)
    for row, lip in enumerate((UPPER, LOWER)):
        moved[row, [LEADING.index(place) for place in lip]] = 6.0

    back = expression.fields(own(2), moved)

    assert float(back[0, 2:].abs().max()) < 1e-4 and float(back[1, :2].abs().max()) < 1e-4
    assert float(back[0, :2].abs().max()) > 4 and float(back[1, 2:].abs().max()) > 4


def test_lips_that_part_leave_a_gap_between_what_the_fields_show() -> None:
    moved = torch.zeros(1, len(LEADING), 2)
    moved[0, [LEADING.index(place) for place in LOWER], 1] = 20.0
    back = expression.fields(own(), moved)
    points, box = identity()["points"], own()["face_box"]

    def arrives(place: int, by: slice, down: float) -> float:
        """How far the place's target is from where the field says it came from."""
        target = points[None, place, :2, None, None] + torch.tensor([0.0, down]).view(1, 2, 1, 1)
        at = field.Box(box[:, 0], box[:, 1]).normal(target)
        return float((target + field.sample(back[:, by], at))[0, 1, 0, 0] - points[place, 1])

    assert abs(arrives(LOWER_LIP_EDGE[4], slice(2, 4), 20.0)) < 1.5
    assert abs(arrives(UPPER_LIP_EDGE[4], slice(0, 2), 0.0)) < 1.5


def test_nothing_moves_at_the_edge_of_the_face_s_box() -> None:
    moved = torch.full((1, len(LEADING), 2), 10.0)

    back = expression.fields(own(), moved)

    edge = torch.cat([back[..., 0, :], back[..., -1, :], back[..., 0], back[..., -1]], -1)
    assert float(edge.abs().max()) < 0.05 and float(back.abs().max()) > 5
