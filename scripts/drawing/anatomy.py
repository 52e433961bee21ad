"""A face to draw: the canonical mesh, made somebody's, and its light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scripts.drawing.brush import SIDE, Points
from workers.models.face import mesh

SCALE = 23.0  # px a centimetre
CENTRE = (512.0, 500.0)
RIGHT, LEFT = "right", "left"  # the person's own

# fmt: off
UPPER_LID = {RIGHT: mesh.RIGHT_UPPER_LID, LEFT: mesh.LEFT_UPPER_LID}
LOWER_LID = {RIGHT: mesh.RIGHT_LOWER_LID, LEFT: mesh.LEFT_LOWER_LID}
CORNERS = {RIGHT: (33, 133), LEFT: (263, 362)}  # outer, inner
# The two rings around an eye, from the outer corner to the inner one.
UPPER_RINGS = {RIGHT: ((247, 30, 29, 27, 28, 56, 190), (113, 225, 224, 223, 222, 221, 189)),
               LEFT: ((467, 260, 259, 257, 258, 286, 414), (342, 445, 444, 443, 442, 441, 413))}
LOWER_RINGS = {RIGHT: ((25, 110, 24, 23, 22, 26, 112), (226, 31, 228, 229, 230, 231, 232)),
               LEFT: ((255, 339, 254, 253, 252, 256, 341), (446, 261, 448, 449, 450, 451, 452))}
IRIS = {RIGHT: tuple(range(468, 473)), LEFT: tuple(range(473, 478))}
BROW_TOP = {RIGHT: (70, 63, 105, 66, 107), LEFT: (300, 293, 334, 296, 336)}  # outer to inner
BROW_BOTTOM = {RIGHT: (46, 53, 52, 65, 55), LEFT: (276, 283, 282, 295, 285)}
UPPER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_EDGE = (78, *mesh.UPPER_LIP_EDGE, 308)
LOWER_EDGE = (78, *mesh.LOWER_LIP_EDGE, 308)
# fmt: on
SIDES = (RIGHT, LEFT)


@dataclass(frozen=True, slots=True)
class Features:
    """What makes a face its own, as factors of the canonical one; lengths in centimetres."""

    jaw: float = 1.0  # width at the chin
    cheeks: float = 1.0
    long: float = 1.0  # from the nose down
    eye_width: float = 1.2
    eye_upper: float = 0.62  # how high the upper lid stands over the corners
    eye_lower: float = 0.36
    eye_tilt: float = 0.08  # how much higher the outer corner is
    eye_apart: float = 0.0
    iris: float = 0.68  # radius
    brow_lift: float = 0.0
    brow_tilt: float = 0.0  # of its inner end, up
    nose: float = 1.0
    mouth: float = 1.0
    upper_lip: float = 1.0
    lower_lip: float = 1.0
    smile: float = 0.18  # how much the corners rise


class Face:
    """`at` (478, 3): the points, in the picture's px; x right, y down, z away."""

    def __init__(self, features: Features) -> None:
        self.features = features
        points = mesh.canonical_shape().double().numpy()
        self._shape(points)
        self._eyes(points)
        self._brows(points)
        self._mouth(points)
        self.at = points * SCALE
        self.at[:, :2] += CENTRE

    def __getitem__(self, which: int | tuple[int, ...]) -> Points:
        return self.at[list(which) if isinstance(which, tuple) else which, :2]

    def place(self, x: float, y: float) -> Points:
        """A place given in centimetres of the canonical face."""
        return np.array([x, y]) * SCALE + CENTRE

    def _shape(self, p: np.ndarray) -> None:
        f = self.features
        down = np.clip((p[:, 1] - 0.5) / 8.6, 0, 1)
        up = 1 - np.clip(np.abs(p[:, 1] - 1) / 6, 0, 1)
        p[:, 0] *= (1 + (f.jaw - 1) * down**1.3) * (1 + (f.cheeks - 1) * up)
        p[:, 1] += np.maximum(p[:, 1] - 1.8, 0) * (f.long - 1)
        near = np.exp(-((p[:, 0] / 1.6) ** 2) - ((p[:, 1] - 0.6) / 1.8) ** 2)
        p[:, 0] *= 1 + (f.nose - 1) * near

    def _eyes(self, p: np.ndarray) -> None:
        f = self.features
        for side in SIDES:
            away = -1 if side == RIGHT else 1
            outer, inner = (p[i].copy() for i in CORNERS[side])
            middle = (outer + inner) / 2 + [away * f.eye_apart, 0, 0]
            half = (outer - inner) / 2 * f.eye_width
            outer, inner = middle + half, middle - half
            outer[1] -= f.eye_tilt
            inner[1] += f.eye_tilt * 0.4
            p[CORNERS[side][0]], p[CORNERS[side][1]] = outer, inner
            t = np.linspace(0, 1, 9)[1:-1]
            base = outer + (inner - outer) * t[:, None]
            upper = base - np.outer(_arch(t, 0.46, 1.0) * f.eye_upper, [0, 1, 0])
            lower = base + np.outer(_arch(t, 0.44, 1.15) * f.eye_lower, [0, 1, 0])
            old_up, old_low = p[list(UPPER_LID[side])], p[list(LOWER_LID[side])]
            for rings, new, old in ((UPPER_RINGS, upper, old_up), (LOWER_RINGS, lower, old_low)):
                for number, ring in enumerate(rings[side]):
                    shift = (new - old)[:, :2] * (0.75 if number == 0 else 0.4)
                    p[list(ring), :2] += shift
            p[list(UPPER_LID[side]), :2] = upper[:, :2]
            p[list(LOWER_LID[side]), :2] = lower[:, :2]
            look = middle + [0, (f.eye_lower - f.eye_upper) / 2 * 0.9 - f.eye_tilt * 0.3, 0]
            ring = np.array([(0, 0), (1, 0), (0, -1), (-1, 0), (0, 1)]) * f.iris
            p[list(IRIS[side]), :2] = look[:2] + ring

    def _brows(self, p: np.ndarray) -> None:
        f = self.features
        for side in SIDES:
            inward = np.linspace(0, 1, 5)
            p[list(BROW_TOP[side]), 1] -= f.brow_lift + f.brow_tilt * inward
            p[list(BROW_BOTTOM[side]), 1] -= f.brow_lift + f.brow_tilt * inward

    def _mouth(self, p: np.ndarray) -> None:
        f = self.features
        lips = list({*UPPER_LIP, *LOWER_LIP, *UPPER_EDGE, *LOWER_EDGE})
        p[lips, 0] *= f.mouth
        closed = (p[list(UPPER_EDGE)] + p[list(LOWER_EDGE)]) / 2
        bow = np.abs(closed[:, 0]) / np.abs(closed[:, 0]).max()
        closed[:, 1] -= f.smile * bow**2
        height = closed[len(closed) // 2, 1]
        p[list(UPPER_EDGE)], p[list(LOWER_EDGE)] = closed, closed
        for lip, full in ((UPPER_LIP, f.upper_lip), (LOWER_LIP, f.lower_lip)):
            ids = list(lip)
            out = np.abs(p[ids, 0]) / np.abs(p[ids, 0]).max()
            p[ids, 1] = height + (p[ids, 1] - height) * full - f.smile * out**2


def _arch(t: np.ndarray, peak: float, power: float) -> np.ndarray:
    """A lid's height along the eye, 1 at its peak; the corners are the longer the more power."""
    warped = t ** (np.log(0.5) / np.log(peak))
    return np.sin(np.pi * warped) ** power


# ----------------------------------------------------------------------- light


def normals(face: Face, soft: float = 7.0) -> tuple[np.ndarray, np.ndarray]:
    """(SIDE, SIDE, 3) the way the face looks at each pixel, and (SIDE, SIDE) where it is known.

    Beyond the mesh the nearest of it goes on.
    """
    points, faces = face.at[:468], mesh.canonical().faces.numpy()
    corner = points[faces]
    across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    across *= np.where(across[:, 2:] > 0, -1, 1)  # towards the camera
    at_vertex = np.zeros((468, 3))
    for k in range(3):
        np.add.at(at_vertex, faces[:, k], across)
    at_vertex /= np.linalg.norm(at_vertex, axis=1, keepdims=True)
    found = np.zeros((SIDE, SIDE, 3))
    seen = np.zeros((SIDE, SIDE))
    order = np.argsort(-corner[:, :, 2].mean(1))  # the nearest last
    for triangle in faces[order]:
        _raster(points[triangle], at_vertex[triangle], found, seen)
    wide_sum, wide_count = _soft(found * seen[..., None], 40), _soft(seen, 40)
    wide = wide_sum / np.maximum(wide_count, 1e-4)[..., None]
    near_sum, near_count = _soft(found * seen[..., None], soft), _soft(seen, soft)
    near = near_sum / np.maximum(near_count, 1e-4)[..., None]
    share = np.clip(near_count, 0, 1)[..., None]
    blend = near * share + wide * (1 - share)
    return blend / np.maximum(np.linalg.norm(blend, axis=2, keepdims=True), 1e-6), seen


def _raster(p: np.ndarray, n: np.ndarray, found: np.ndarray, seen: np.ndarray) -> None:
    low, high = np.floor(p[:, :2].min(0)).astype(int), np.ceil(p[:, :2].max(0)).astype(int) + 1
    x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    (ax, ay), (bx, by), (cx, cy) = p[:, :2]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if abs(area) < 1e-6:
        return
    v = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
    w = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
    inside = (v >= -0.01) & (w >= -0.01) & (v + w <= 1.01)
    value = n[0] + v[..., None] * (n[1] - n[0]) + w[..., None] * (n[2] - n[0])
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    found[window][inside] = value[inside]
    seen[window][inside] = 1


def _soft(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur, as three running means along each side."""
    reach = max(1, round(sigma * 0.98))
    for axis in (0, 1):
        for _ in range(3):
            pad = [(0, 0)] * x.ndim
            pad[axis] = (reach + 1, reach)
            total = np.cumsum(np.pad(x, pad, mode="edge"), axis=axis)
            size = x.shape[axis]
            high = np.take(total, np.arange(2 * reach + 1, 2 * reach + 1 + size), axis=axis)
            low = np.take(total, np.arange(size), axis=axis)
            x = (high - low) / (2 * reach + 1)
    return x


def lit(ways: np.ndarray, light: tuple[float, float, float]) -> np.ndarray:
    """How much of a light from there each pixel gets, -1 to 1."""
    direction = np.array(light) / np.linalg.norm(light)
    return ways @ direction


def step(x: np.ndarray, start: float, end: float) -> np.ndarray:
    t = np.clip((x - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)
