"""workers.portrait: any picture as the model reads it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from avatars import PICTURES, Dyed, DyedAlpha
from torch import Tensor

from workers.errors import ModelError, PortraitRefused
from workers.geometry import Geometry
from workers.models.api import AvatarModel
from workers.picture import Picture
from workers.portrait import fitted, paths_of, portrait_of, portrait_of_nobody, shipped

SIZE = Geometry(32, 16)
ROSE = torch.tensor([220, 60, 90]) / 255


class Own(Dyed):
    def default_portrait(self) -> Tensor:
        return torch.full((3, 20, 20), 0.25)


def test_who_brings_no_portrait_gets_the_default_one() -> None:
    assert portrait_of_nobody(Own(), SIZE).mean() == 0.25
    first = portrait_of_nobody(Dyed(), SIZE)
    assert first.shape == (3, 64, 64) and torch.allclose(first.mean((1, 2)), ROSE)
    assert portrait_of_nobody(AvatarModel(), SIZE).shape == (3, 16, 32)


def test_a_model_gets_as_many_planes_as_it_reads() -> None:
    clear = torch.cat([torch.ones(3, 4, 4), torch.full((1, 4, 4), 0.5)])
    assert fitted(DyedAlpha(), clear) is not None and len(fitted(DyedAlpha(), clear)) == 4
    assert fitted(DyedAlpha(), clear[:3])[3].min() == 1
    assert len(fitted(Dyed(), clear)) == 3 and fitted(Dyed(), clear).mean() == 0.75


def test_pixels_become_planes() -> None:
    picture = Picture(20, 16, bytes([255, 0, 51, 0]) * 320, 4)
    portrait = portrait_of(DyedAlpha(), picture)
    assert portrait.shape == (4, 16, 20) and portrait.dtype == torch.float32
    assert torch.allclose(portrait.mean((1, 2)), torch.tensor([1.0, 0.0, 0.2, 0.0]))
    assert portrait_of(Dyed(), picture).mean() == 0.5


def test_a_portrait_that_does_not_ship_is_refused_by_name() -> None:
    assert shipped(Dyed(), "sky").shape == (3, 64, 64)
    with pytest.raises(PortraitRefused, match="no portrait 'nobody': it has rose, sky"):
        shipped(Dyed(), "nobody")


def test_the_shipped_ones_files_are_told_and_must_be_there() -> None:
    assert paths_of(Dyed()) == {name: str(PICTURES / f"{name}.png") for name in ("rose", "sky")}

    class Nameless(Dyed):
        portraits: ClassVar = {"A Rose": PICTURES / "rose.png"}

    class Lost(Dyed):
        portraits: ClassVar = {"rose": Path("/nowhere/rose.png")}

    with pytest.raises(ModelError, match="no usable name"):
        paths_of(Nameless())
    with pytest.raises(ModelError, match=r"no file /nowhere/rose\.png"):
        paths_of(Lost())
