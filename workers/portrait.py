"""The portrait of a session that brought none."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.geometry import Geometry
from workers.models.api import AvatarModel


def portrait_of_nobody(model: AvatarModel, geometry: Geometry) -> Tensor:
    """(3, H, W) float32 in [0, 1]: the model's own default, else plain grey of the geometry."""
    own = model.default_portrait()
    return torch.full((3, geometry.height, geometry.width), 0.5) if own is None else own
