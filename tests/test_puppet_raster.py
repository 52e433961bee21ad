"""Shapes and blurs on small pictures."""

from __future__ import annotations

import pytest
import torch

from workers.models.puppet import raster
from workers.models.puppet.local import Frame, Window

SQUARE = torch.tensor([[4.0, 4.0], [12.0, 4.0], [12.0, 12.0], [4.0, 12.0]])


def test_a_polygon_covers_its_area() -> None:
    covered = raster.coverage(raster.pixels(16, 16), SQUARE, soft=1.0)

    assert float(covered.sum()) == pytest.approx(64, abs=2)
    assert float(covered[8, 8]) == 1 and float(covered[1, 1]) == 0


def test_a_place_is_as_far_from_a_line_as_from_its_nearest_point() -> None:
    line = torch.tensor([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]])
    places = torch.tensor([[5.0, 3.0], [14.0, 8.0], [12.0, 2.0]])

    assert torch.allclose(raster.distance(places, line), torch.tensor([3.0, 5.0, 2.0]))


def test_what_is_known_spreads_and_keeps_its_colour() -> None:
    known = torch.zeros(20, 20)
    known[:, :5] = 1
    picture = torch.where(known > 0, 0.7, 0.1).expand(3, -1, -1)

    grown = raster.spread(picture, known, 2.0, torch.tensor([0.3, 0.3, 0.3]))

    assert torch.allclose(grown[:, 10, 6], torch.tensor(0.7), atol=0.01)
    assert torch.allclose(grown[:, 10, 19], torch.tensor(0.3), atol=0.01)


def test_a_blur_keeps_the_mean_and_a_flat_picture() -> None:
    flat = torch.full((2, 9, 9), 0.4)

    assert torch.allclose(raster.blur(flat, 1.5), flat)


def test_a_frame_leads_there_and_back() -> None:
    frame = Frame.between(torch.tensor([10.0, 20.0]), torch.tensor([50.0, 32.0]), torch.ones(2))
    x, y = torch.tensor([3.0, 44.0]), torch.tensor([7.0, -2.0])

    back = frame.outside(*frame.inside(x, y))

    assert torch.allclose(torch.stack(back), torch.stack([x, y]), atol=1e-4)


def test_the_corners_of_a_part_lie_one_unit_apart_on_its_axis() -> None:
    left, right = torch.tensor([10.0, 20.0]), torch.tensor([50.0, 32.0])
    frame = Frame.between(left, right, (left + right) / 2)

    corners = frame.points(torch.stack([left, right]))

    assert torch.allclose(corners, torch.tensor([[-0.5, 0.0], [0.5, 0.0]]), atol=1e-6)


def test_a_window_finds_its_own_texels() -> None:
    window = Window(-1.0, -0.5, 1.0, 0.5, wide=16, high=8)
    picture = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))

    assert torch.allclose(window.look_up(picture, *window.places().unbind(-1)), picture, atol=1e-5)
