"""What the stream side and the preparer say to each other; see `workers.channel`."""

from __future__ import annotations

from dataclasses import dataclass

from workers.geometry import Geometry


@dataclass(frozen=True, slots=True)
class PortraitSize:
    """Of the portrait in the memfd beside a `Prepare`: RGB or RGBA, uint8, (height, width, 3 or
    4)."""

    width: int
    height: int
    channels: int = 3

    @property
    def portrait_bytes(self) -> int:
        return self.width * self.height * self.channels


@dataclass(frozen=True, slots=True)
class Prepare:
    """Compute an identity. Its portrait comes beside it as a memfd, or is the model's own of that
    `name`; with neither the model's default one serves, or plain grey of the worker's geometry."""

    request: int
    model: str  # as in `WorkerSpec.model`
    geometry: Geometry
    portrait: PortraitSize | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The identity is in the memfd beside it, as `workers.identity.load_identity` reads it."""

    request: int


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """There is no identity; `reason`: why, in one line."""

    request: int
    reason: str


ToPreparer = Prepare
FromPreparer = Prepared | PrepareFailed
