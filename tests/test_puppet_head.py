"""A head that turns, and what it leaves where it is."""

from __future__ import annotations

import math

import torch
from puppets import drawn, identity, own, still

from workers.models.face import pose
from workers.models.puppet import head, limits
from workers.models.puppet.head import Turn


def turn(vector: tuple[float, float, float], shift: tuple[float, float] = (0, 0)) -> Turn:
    rotation = pose.rotation_of(torch.tensor([vector]).float())
    return Turn(identity()["centre"][None], rotation, torch.ones(1), torch.tensor([shift]).float())


def test_a_head_at_rest_shows_itself() -> None:
    terrain = own()["terrain"]

    shown = head.unturned(terrain, turn((0, 0, 0)))

    assert torch.allclose(shown, head.own_cells(terrain).expand_as(shown), atol=1e-3)


def test_what_a_turn_moves_is_looked_up_where_it_came_from() -> None:
    terrain, turned = own()["terrain"], turn((0.1, 0.25, 0.2), (12.0, -5.0))

    shown = head.unturned(terrain, turned)

    at = shown / (head.SIDE / 2) - 1
    again = shown + head.field.sample(head.ahead(terrain, turned), at)
    off = (again - head.own_cells(terrain)).norm(dim=1)[0]
    inner = off[8:-8, 8:-8]
    assert float(inner.quantile(0.99)) < 0.5


def test_the_nose_leads_and_the_ears_lag() -> None:
    points = identity()["points"]
    places = points[[4, 234, 454]].T[None]

    seen = head.turned(turn((0, 0.3, 0)), places[:, :2], places[:, 2:])

    moved = (seen - places[:, :2])[0, 0]
    assert float(moved[0]) < float(moved[1]) and float(moved[0]) < float(moved[2])


def test_the_face_takes_part_in_full_and_the_shoulders_not_at_all() -> None:
    depth, share = identity()["terrain"]
    x, y = (identity()["points"][1, :2] * (head.GRID / head.SIDE)).long().tolist()

    assert float(share[y, x]) == 1
    assert float(share[-1].max()) < 0.02
    assert float(depth[y, x]) < float(depth[y].max())


def test_an_edge_that_cuts_the_figure_stays() -> None:
    points = identity()["points"]

    terrain = head.prepare(points, torch.ones(512, 512))["terrain"]
    loose = head.prepare(points, torch.zeros(512, 512))["terrain"]

    assert float(terrain[1, 0].max()) < 0.01 < float(loose[1, 0].min())


def test_what_is_behind_the_head_stays_when_it_turns() -> None:
    """With a plate that differs from the picture all that shows of it shows where it is."""
    figure = identity()["figure"].clone()
    figure[:, :, :100] = torch.tensor([0.0, 0, 0, 1])[:, None, None]  # nobody there
    plate = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0))

    rotation = pose.rotation_of(torch.tensor([[0.0, 0.2, 0.1]]))
    picture = drawn(still(rotation=rotation), figure=figure, plate=plate)

    assert torch.allclose(picture[0, :, :, :40], plate[:, :, :40], atol=2e-3)


def test_deeper_faces_turn_less_far() -> None:
    points, centre = identity()["points"], identity()["centre"]
    terrain = identity()["terrain"]
    deeper = torch.stack([(terrain[0] - terrain[0].mean()) * 3, terrain[1]])

    near, far = (limits.prepare(it, points, centre) for it in (deeper, terrain))

    assert bool((near[:, :2] < far[:, :2]).all())
    assert float(far.max()) < math.radians(45)
