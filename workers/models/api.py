"""What an avatar model is: the interface, nothing of ours behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from workers.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Control:
    """A live number of a session: a strength, a smoothing."""

    low: float
    high: float
    default: float


Tensors = dict[str, Tensor]


class AvatarModel(nn.Module):
    """A model with an identity, a state or controls. A plain `nn.Module` also serves.

    Every tensor of `identity`, `initial_state` and `controls` is kept in a bank of
    `max_sessions + 1` rows on the device; the last row is scratch: fill rows write their state
    there.
    """

    geometry: Geometry | None = None
    """What it must run at; None: any."""

    batch_size: int | None = None
    """The one batch it runs at, where it was exported for one; None: any."""

    controls: ClassVar[Mapping[str, Control]] = {}

    reads_banks: ClassVar[bool] = False
    """True: `forward` gets whole banks and `rows`, instead of rows gathered for it."""

    portraits: ClassVar[Mapping[str, Path]] = {}
    """Pictures (PNG, JPEG, WebP) that come with it, by name (`[a-z0-9-]{1,64}`); the first is the
    default one's."""

    reads_alpha: ClassVar[bool] = False
    """True: `identity` gets (4, H, W), alpha 1 where the picture has none; else it gets three
    planes, a transparent picture laid over mid-grey."""

    @property
    def has_identity(self) -> bool:
        """Whether a session's identity must be prepared from a portrait."""
        return type(self).identity is not AvatarModel.identity

    def identity(self, portrait: Tensor) -> Tensors:
        """What is computed once from a portrait (3, H, W) in [0, 1]; runs on the CPU.

        The names, shapes and dtypes must not depend on the portrait. No identity: {}. A
        `workers.errors.ModelError` for a portrait that has none in it: its words are told to
        whoever sent it.
        """
        return {}

    def initial_state(self) -> Tensors:
        """What a session starts from, without the batch's axis. No state: {}."""
        return {}

    def default_portrait(self) -> Tensor | None:
        """The portrait (3, H, W) of a session that brought none; None: the first of `portraits`,
        else plain grey."""
        return None

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        """frames (B, 3, H, W) in [0, 1] → the avatar's (B, 3, H, W) in [0, 1], and the new state.

        `identity`, `state`: each tensor with an axis of B before; `controls`: (B,) each, float32;
        `dt_s` (B,): seconds since that lane's previous frame, 0 for its first.

        A row with NaN or an infinity in it is not shown, and its session begins anew from
        `initial_state`; the others are as they are.

        With `reads_banks`, `forward(frames, identity, state, controls, dt_s, rows)`: `identity`
        has the banks' full axis of rows, `rows` (B,) int64 says which row is whose; `state` and
        `controls` come gathered, as above.
        """
        raise NotImplementedError


__all__ = ["AvatarModel", "Control", "Geometry", "Tensors", "torch"]
