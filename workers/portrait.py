"""A portrait as the model's `identity` takes it: its own, or somebody's picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workers.errors import ModelError, PortraitRefused
from workers.geometry import Geometry
from workers.models.api import AvatarModel

if TYPE_CHECKING:
    from workers.picture import Picture

GREY = 0.5  # beneath a transparent picture
NAME = re.compile(r"[a-z0-9-]{1,64}")


def paths_of(model: AvatarModel) -> dict[str, str]:
    """Its shipped portraits' files by name. Raises ModelError for what cannot be told on."""
    for name, path in model.portraits.items():
        if not NAME.fullmatch(name):
            raise ModelError(
                f"the model's portrait {name!r} has no usable name: "
                "1 to 64 of the characters a-z, 0-9 and -"
            )
        if not path.is_file():
            raise ModelError(f"the model's portrait {name!r} is not there: no file {path}")
    return {name: str(path.resolve()) for name, path in model.portraits.items()}


def portrait_of_nobody(model: AvatarModel, geometry: Geometry) -> Tensor:
    """(3 or 4, H, W) float32 in [0, 1]: the model's own default, else grey of the geometry."""
    own = model.default_portrait()
    if own is not None:
        return fitted(model, own)
    if model.portraits:
        return shipped(model, next(iter(model.portraits)))
    return fitted(model, torch.full((3, geometry.height, geometry.width), GREY))


def shipped(model: AvatarModel, name: str) -> Tensor:
    """(3 or 4, H, W) float32 in [0, 1]: the model's own of this name.

    Raises PortraitRefused where there is none.
    """
    path = model.portraits.get(name)
    if path is None:
        raise PortraitRefused(
            f"the model has no portrait {name!r}: it has {', '.join(model.portraits) or 'none'}"
        )
    from workers.picture import read_picture  # Pillow's, which an engine does without

    return portrait_of(model, read_picture(path.read_bytes()))


def portrait_of(model: AvatarModel, picture: Picture) -> Tensor:
    """(3 or 4, H, W) float32 in [0, 1]."""
    shape = (picture.height, picture.width, picture.channels)
    pixels = np.frombuffer(bytearray(picture.pixels), np.uint8).reshape(shape)
    planes = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div(255)
    return fitted(model, planes)


def fitted(model: AvatarModel, portrait: Tensor) -> Tensor:
    """With an alpha plane, or without, as the model reads it."""
    colours, alpha = portrait[:3], portrait[3:]
    if model.reads_alpha:
        return torch.cat([colours, alpha if len(alpha) else torch.ones_like(colours[:1])])
    return colours * alpha + GREY * (1 - alpha) if len(alpha) else colours
