"""The one width and height at which a worker runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Geometry:
    """An even width and height in pixels, 16 to 4096 each.

    A frame of it is I420: planes Y (H, W), U and V (H/2, W/2), uint8, BT.601 limited range, one
    after another without padding, which is the same memory as an array of (H * 3 // 2, W).
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        for side in (self.width, self.height):
            if not 16 <= side <= 4096 or side % 2:
                raise SettingsError(
                    f"geometry {self.width}x{self.height} does not serve: "
                    "both sides must be even, from 16 to 4096"
                )

    @classmethod
    def parse(cls, text: str) -> Geometry:
        """From `WxH`, as in `512x512`."""
        found = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text.strip())
        if not found:
            raise SettingsError(f"geometry {text!r} is not of the form WxH: write it as 512x512")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def frame_bytes(self) -> int:
        """The bytes of one I420 frame."""
        return self.width * self.height * 3 // 2

    @property
    def rows(self) -> int:
        """The rows of a frame seen as an array of (rows, width)."""
        return self.height * 3 // 2
