"""The background goes on where the person was."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.models.puppet.plate import APART, plate

SIDE = 128


def place(noise: float = 0.0) -> Tensor:
    """(3, SIDE, SIDE): colours that run from corner to corner."""
    steps = torch.linspace(0.2, 0.8, SIDE)
    across, down = steps.expand(SIDE, -1), steps[:, None].expand(-1, SIDE)
    dice = torch.Generator().manual_seed(1)
    grain = torch.randn(3, SIDE, SIDE, generator=dice) * noise
    return torch.stack([across, down, 1 - across]) + grain


def somebody(radius: float = 30) -> Tensor:
    steps = torch.arange(SIDE) - SIDE / 2
    return (steps.square()[:, None] + steps.square() < radius**2).float()


def portrait(background: Tensor, matte: Tensor) -> Tensor:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return background * (1 - matte) + red * matte


def test_what_is_known_stays_to_the_bit() -> None:
    found = plate(portrait(place(), somebody()), somebody())
    away = somebody(30 + 3 * APART) == 0
    assert torch.equal(found[:, away], place()[:, away])


def test_the_background_runs_on_beneath_the_person() -> None:
    found = plate(portrait(place(), somebody()), somebody())
    assert (found - place()).abs().mean() < 0.02
    assert (found - place()).abs().max() < 0.1  # and none of the person's red is left


def test_no_light_of_the_persons_edge_is_left() -> None:
    """The picture's edge is softer than the matte says."""
    soft = torch.nn.functional.avg_pool2d(somebody()[None], 9, 1, 4)[0]
    found = plate(portrait(place(), soft), somebody())
    assert (found - place()).abs().max() < 0.1


def test_what_is_filled_in_has_the_grain_of_the_rest() -> None:
    found = plate(portrait(place(0.02), somebody()), somebody())
    inside = somebody(20)[8:-8, 8:-8] > 0
    fine = found - torch.nn.functional.avg_pool2d(found, 5, 1, 2)
    inner = fine[:, 8:-8, 8:-8][:, inside].std()
    outer = fine[:, 8:-8, 8:-8][:, somebody(50)[8:-8, 8:-8] == 0].std()
    assert 0.3 < float(inner / outer) < 1.7


def test_a_smooth_place_gets_no_grain() -> None:
    flat = torch.full((3, SIDE, SIDE), 0.5)
    found = plate(portrait(flat, somebody()), somebody())
    assert (found - flat).abs().max() < 1e-3


def test_where_nothing_is_known_it_is_still_a_picture() -> None:
    found = plate(place(), torch.ones(SIDE, SIDE))
    assert bool(found.isfinite().all()) and 0.2 < float(found.mean()) < 0.8


def test_it_is_the_same_each_time() -> None:
    picture = portrait(place(0.02), somebody())
    assert torch.equal(plate(picture, somebody()), plate(picture, somebody()))
