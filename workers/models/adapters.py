"""Modules that are no `AvatarModel`, made into one by adapters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor, nn

from workers.errors import ModelError
from workers.geometry import Geometry
from workers.models.api import AvatarModel, Control, Tensors

INTERFACE = ("identity", "state", "controls", "dt_s")


def as_avatar(module: nn.Module) -> AvatarModel:
    """The module itself if it is an `AvatarModel`, else the module in an adapter.

    A module whose `forward` has parameters named `identity`, `state`, `controls` and `dt_s` speaks
    the interface without its base class: `geometry`, `identity`… are read off it where they are.
    Any other is a plain one, from frames (B, 3, H, W) to frames (B, 3, H, W).
    """
    if isinstance(module, AvatarModel):
        return module
    parameters = inspect.signature(module.forward).parameters
    return Spoken(module) if all(name in parameters for name in INTERFACE) else Plain(module)


class Plain(AvatarModel):
    """A module from frames to frames: no identity, no state, no controls."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        geometry = getattr(module, "geometry", None)
        self.geometry = geometry if isinstance(geometry, Geometry) else None

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        """What the module answers to the frames, and the state as it came."""
        return self.module(frames), state


class Exported(Plain):
    """A `torch.export` program's module, fixed to the batch and geometry it was exported for."""

    def __init__(
        self, module: nn.Module, batch_size: int | None, geometry: Geometry | None
    ) -> None:
        super().__init__(module)
        self.batch_size = batch_size
        self.geometry = geometry
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Nothing: an exported graph has its mode built in, and raises when asked for one."""
        return self


class Spoken(AvatarModel):
    """A module that speaks the interface without its base class."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.geometry = getattr(module, "geometry", None)
        self.batch_size = getattr(module, "batch_size", None)
        # The base class has these for classes; here each instance has its module's own.
        own: dict[str, object] = {
            "controls": _controls(module),
            "reads_banks": bool(getattr(module, "reads_banks", False)),
        }
        self.__dict__.update(own)

    @property
    def has_identity(self) -> bool:
        return self._method("identity") is not None

    def identity(self, portrait: Tensor) -> Tensors:
        method = self._method("identity")
        return {} if method is None else method(portrait)

    def initial_state(self) -> Tensors:
        method = self._method("initial_state")
        return {} if method is None else method()

    def default_portrait(self) -> Tensor | None:
        method = self._method("default_portrait")
        return None if method is None else method()

    def forward(
        self,
        frames: Tensor,
        identity: Tensors,
        state: Tensors,
        controls: Tensors,
        dt_s: Tensor,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensors]:
        asked: tuple[object, ...] = (frames, identity, state, controls, dt_s)
        return self.module(*asked) if rows is None else self.module(*asked, rows)  # type: ignore[no-any-return]  # nn.Module answers Any

    def _method(self, name: str) -> Callable[..., Any] | None:  # Any: a foreign method's
        method = getattr(self.module, name, None)
        return method if callable(method) else None


def _controls(module: nn.Module) -> Mapping[str, Control]:
    controls = getattr(module, "controls", {})
    if not isinstance(controls, Mapping) or not all(
        isinstance(control, Control) for control in controls.values()
    ):
        raise ModelError(
            f"model {type(module).__name__} has controls that are no Control: "
            "make each a workers.models.api.Control(low, high, default)"
        )
    return controls
