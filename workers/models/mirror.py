"""The identity function, through the full way: what is measured with it is not the model."""

from __future__ import annotations

from torch import Tensor

from workers.models.api import AvatarModel, Tensors


class Mirror(AvatarModel):
    """Gives back the frames it was given."""

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        """frames (B, 3, H, W) → themselves; no state."""
        return frames, state
