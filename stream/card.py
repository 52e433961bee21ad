"""The picture before the first avatar frame: a plain silhouette on a soft gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.geometry import Geometry

_Plane = NDArray[np.float32]


def make_card(geometry: Geometry) -> NDArray[np.uint8]:
    """(H * 3 // 2, W) uint8, I420, BT.601 limited range; nobody's face, and no text."""
    width, height = geometry.width, geometry.height
    card = np.empty((geometry.rows, width), np.uint8)
    y, x = np.ogrid[0:height, 0:width]
    across = ((x + 0.5) / width - 0.5).astype(np.float32)  # ±0.5 at the picture's edges
    down = ((y + 0.5) / height - 0.5).astype(np.float32)
    ground = 91 - 34 * down - 40 * (across**2 + down**2)
    shade = _silhouette(across, down, geometry)
    card[:height] = np.rint(ground + (137 - 26 * down - ground) * shade)
    card[height : height * 5 // 4] = 134  # a touch of blue
    card[height * 5 // 4 :] = 124
    return card


def _silhouette(across: _Plane, down: _Plane, geometry: Geometry) -> _Plane:
    """1 in a head and its shoulders, 0 outside, with an edge one pixel soft."""
    unit = min(geometry.width, geometry.height)
    u = across * (geometry.width / unit)
    v = down * (geometry.height / unit)
    head = 1 - (u / 0.145) ** 2 - ((v + 0.12) / 0.175) ** 2
    # Below their middle the shoulders go straight down, and leave a picture of any height.
    shoulders = 1 - (np.abs(u) / 0.34) ** 2.4 - (np.maximum(0.5 - v, 0) / 0.36) ** 2.4
    soft = np.maximum(head * (0.07 * unit), shoulders * (0.15 * unit)) + 0.5
    shade: _Plane = np.clip(soft, 0, 1)
    return shade
