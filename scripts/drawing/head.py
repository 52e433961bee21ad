"""A head's parts, drawn where the face's points are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from scripts.drawing import anatomy
from scripts.drawing.anatomy import LEFT, RIGHT, Face, lit, normals, step
from scripts.drawing.brush import (
    Brush,
    Colour,
    Points,
    even,
    linear,
    mix,
    radial,
    rgb,
    ribbon,
    smooth,
)
from workers.models.face.mesh import OVAL

WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
MULTIPLY, SCREEN = skia.BlendMode.kMultiply, skia.BlendMode.kScreen
SOFT_LIGHT = skia.BlendMode.kSoftLight


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours, as a screen has them, from 0 to 1."""

    deep: Colour  # skin, from the darkest
    shade: Colour
    skin: Colour
    light: Colour
    blush: Colour
    lip: Colour
    lip_dark: Colour
    iris_dark: Colour
    iris: Colour
    iris_light: Colour
    lash: Colour
    brow: Colour
    lid: Colour  # what colours the upper lid
    rim: Colour  # the light from behind


@dataclass(frozen=True, slots=True)
class Light:
    key: tuple[float, float, float] = (-0.42, -0.5, -0.76)
    rim: tuple[float, float, float] = (0.95, -0.1, 0.25)
    hard: float = 0.4  # 0: all soft, 1: two flat tones
    rim_strength: float = 0.75


def outline(face: Face) -> Points:
    """The face's edge; above the eyes it is the skull's, beneath hair."""
    oval = face[OVAL].copy()
    brow = face.place(0, -4)[1]
    above = np.maximum(brow - oval[:, 1], 0)
    oval[:, 1] -= above * 0.35
    return smooth(oval, closed=True)


def paint_skin(brush: Brush, face: Face, palette: Palette, light: Light) -> None:
    ways, _ = normals(face, 10)
    key = lit(ways, light.key)
    soft = step(key, -0.35, 0.9)
    flat = 0.5 * step(key, -0.05, 0.2) + 0.5 * step(key, 0.32, 0.52)
    tone = soft * (1 - light.hard) + flat * light.hard
    stops = np.array([palette.deep, palette.shade, palette.skin, palette.light])
    places = [0.0, 0.38, 0.8, 1.0]
    colour = np.stack([np.interp(tone, places, stops[:, k]) for k in range(3)], -1)
    gleam = step(lit(ways, (-0.25, -0.45, -0.86)), 0.955, 1.0)[..., None] * 0.35
    colour = colour + (np.array(palette.light) - colour) * gleam
    edge = step(lit(ways, light.rim), 0.42, 0.9)[..., None] * light.rim_strength
    colour = 1 - (1 - colour) * (1 - edge * np.array(palette.rim))
    pixels = np.concatenate([colour, np.ones((*colour.shape[:2], 1))], -1)
    edge_line = outline(face)
    with brush.inside(edge_line):
        brush.image(pixels)
        for x, tilt in ((-4.7, -12), (4.7, 12)):
            brush.ellipse(face.place(x, 0.9), 58, 36, palette.blush, 0.42, 24, turn=tilt)
        brush.ellipse(face[4] + [0, 4], 26, 20, palette.blush, 0.22, 12)
        brush.line(edge_line, palette.deep, 9, 0.30, 5, closed=True)
        side = edge_line[edge_line[:, 0] > face[152][0] + 20]
        side = side[side[:, 1] > face[454][1] - 60]
        brush.line(side + [-3, -2], palette.rim, 12, light.rim_strength * 0.8, 6, SCREEN)
        brush.line(
            side + [-1, -1], mix(palette.rim, WHITE, 0.4), 4, light.rim_strength * 0.9, 1.5, SCREEN
        )


def paint_freckles(
    brush: Brush, face: Face, colour: Colour, rng: np.random.Generator, count: int = 46
) -> None:
    for _ in range(count):
        side = rng.choice([-1, 1])
        x, y = side * abs(rng.normal(2.6, 1.7)), rng.normal(0.1, 0.7)
        size = rng.uniform(1.2, 2.6)
        brush.ellipse(
            face.place(x, y - 0.08 * abs(x)), size, size * 0.85, colour, rng.uniform(0.2, 0.5), 0.5
        )


def paint_nose(brush: Brush, face: Face, palette: Palette) -> None:
    for side, away in ((RIGHT, -1), (LEFT, 1)):
        wing, base = (face[98], face[97]) if side == RIGHT else (face[327], face[326])
        middle = base + (wing - base) * 0.50 + [0, 1]
        brush.ellipse(middle, 9.5, 4.6, palette.deep, 0.75, 3.0, turn=away * 14)
        brush.ellipse(
            middle + [0, -0.5], 6.4, 2.9, mix(palette.deep, BLACK, 0.45), 0.75, 1.4, turn=away * 14
        )
        outer = face[64 if side == RIGHT else 294]
        curve = smooth(
            [
                outer + [-away * 1, -12],
                outer + [away * 4, -1],
                wing + [away * 3, 6],
                wing + [-away * 5, 6],
            ]
        )
        brush.stroke(curve, palette.deep, 4.2, 0.5, 1.4)
    tip, base = face[4], face[2]
    brush.stroke(
        smooth([face[97] + [0, 5], base + [0, 7], face[326] + [0, 5]]), palette.deep, 6, 0.5, 2.5
    )
    brush.ellipse(tip + [-5, -7], 9, 7, palette.light, 0.75, 4)
    brush.stroke(
        smooth([face[6] + [-3, 10], face[197] + [-4, 0], face[5] + [-4, -4]]),
        palette.light,
        11,
        0.5,
        5,
    )


def paint_eyes(
    brush: Brush, face: Face, palette: Palette, lashes: float = 1.0, lines: float = 1.0
) -> None:
    """lashes: how long they are; lines: how strong what is drawn around the eye."""
    rng = np.random.default_rng(7)
    for side, away in ((RIGHT, -1), (LEFT, 1)):
        outer, inner = (face[i] for i in anatomy.CORNERS[side])
        upper = even(smooth(np.vstack([outer, face[anatomy.UPPER_LID[side]], inner])), 60)
        lower = even(smooth(np.vstack([outer, face[anatomy.LOWER_LID[side]], inner])), 60)
        shape = np.vstack([upper, lower[::-1]])
        _socket(brush, upper, lower, palette, away, lines)
        with brush.inside(shape):
            _ball(brush, face, side, upper, lower, palette, rng)
        _lids(brush, upper, lower, palette, away, lashes, lines)


def _socket(
    brush: Brush, upper: Points, lower: Points, palette: Palette, away: int, lines: float
) -> None:
    span = abs(upper[0, 0] - upper[-1, 0])
    up = np.sin(np.linspace(0, np.pi, 60))[:, None] ** 0.7
    crease = upper + up * [0, -span * 0.17] + [[away * 1.5, -span * 0.03]]
    brush.fill(np.vstack([upper, crease[::-1]]), palette.lid, 0.55, 5)
    brush.fill(np.vstack([upper[:34], crease[:34][::-1]]), palette.lid, 0.45, 6)
    below = lower + up * [0, span * 0.12]
    brush.fill(np.vstack([lower, below[::-1]]), palette.shade, 0.45, 6)
    brush.stroke(crease[3:55], palette.deep, 4.4 * lines, 0.85, 0.8)
    brush.stroke((lower + up * [0, span * 0.16])[12:52], palette.deep, 3.0, 0.22, 1.6)


def _ball(
    brush: Brush,
    face: Face,
    side: str,
    upper: Points,
    lower: Points,
    palette: Palette,
    rng: np.random.Generator,
) -> None:
    top, bottom = upper[:, 1].min(), lower[:, 1].max()
    tint = mix(palette.shade, rgb("#8fa0c8"), 0.6)
    brush.wash(
        linear(
            (0, top),
            (0, bottom),
            (0, mix(tint, WHITE, 0.35)),
            (0.45, rgb("#fbf9f7")),
            (1, rgb("#f3eeec")),
        )
    )
    brush.ellipse(upper[0], 13, 11, palette.deep, 0.55, 5)
    inner = upper[-1]
    brush.ellipse(inner + [0, 1], 8, 8, mix(palette.blush, palette.lip, 0.4), 0.75, 2.5)
    centre = face[anatomy.IRIS[side][0]]
    radius = float(np.linalg.norm(face[anatomy.IRIS[side][1]] - centre))
    brush.ellipse(centre, radius * 1.06, radius * 1.06, palette.iris_dark, 0.5, 2.0)
    brush.ellipse(
        centre,
        radius,
        radius,
        radial(
            centre + [0, radius * 0.3],
            radius * 1.25,
            (0, palette.iris_light),
            (0.45, palette.iris),
            (0.78, mix(palette.iris, palette.iris_dark, 0.6)),
            (1, palette.iris_dark),
        ),
    )
    for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
        angle += rng.uniform(-0.04, 0.04)
        way = np.array([np.cos(angle), np.sin(angle)])
        start, end = rng.uniform(0.42, 0.5), rng.uniform(0.68, 0.93)
        bright = palette.iris_light if rng.uniform() < 0.6 else palette.iris_dark
        piece = centre + np.linspace(start, end, 8)[:, None] * radius * way
        brush.stroke(piece, bright, rng.uniform(0.9, 2.2), rng.uniform(0.25, 0.65))
    brush.ellipse(
        centre + [0, radius * 0.48],
        radius * 0.62,
        radius * 0.38,
        mix(palette.iris_light, WHITE, 0.25),
        0.55,
        radius * 0.16,
    )
    brush.ellipse(centre, radius * 0.43, radius * 0.43, mix(palette.iris_dark, BLACK, 0.75))
    brush.line(
        centre
        + radius
        * 0.965
        * np.stack([np.cos(np.linspace(0, 6.3, 60)), np.sin(np.linspace(0, 6.3, 60))], 1),
        mix(palette.iris_dark, BLACK, 0.35),
        radius * 0.12,
        0.85,
        0.5,
    )
    brush.line(upper + [0, 5], mix(palette.lash, BLACK, 0.2), 15, 0.42, 4)
    brush.ellipse(
        centre + np.array([-0.36, -0.40]) * radius, radius * 0.27, radius * 0.25, WHITE, 1, 0.5
    )
    brush.ellipse(
        centre + np.array([0.40, 0.42]) * radius, radius * 0.13, radius * 0.12, WHITE, 0.85, 0.6
    )


def _lids(
    brush: Brush,
    upper: Points,
    lower: Points,
    palette: Palette,
    away: int,
    lashes: float,
    lines: float,
) -> None:
    span = abs(upper[0, 0] - upper[-1, 0])
    t = np.linspace(0, 1, 60)
    brush.stroke(lower[4:58] + [0, 1.2], mix(palette.skin, palette.lip, 0.35), 3.4, 0.9, 0.4)
    brush.stroke(lower[1:44] + [0, 2.6], palette.lash, 2.6 * lines, 0.65, 0.5, start=0.7)
    wing = upper[0] + np.array([away * span * 0.13, -span * 0.07]) * lashes
    line = np.vstack([wing, upper])
    thick = np.r_[
        0.0,
        (0.85 - 0.62 * t)
        * span
        * 0.085
        * (0.6 + 0.4 * lashes)
        * np.clip((1 - t) * 14 + 0.15, 0, 1),
    ]
    brush.fill(ribbon(line - np.c_[np.zeros(61), thick * 0.32], thick), palette.lash)
    for at in np.linspace(1, 40, round(11 * lashes)) if lashes > 0.4 else ():
        root = upper[int(at)]
        lean = 1 - at / 34
        tip = (
            root
            + np.array(
                [away * span * (0.10 * lean + 0.015), -span * (0.115 - 0.03 * abs(lean - 0.5))]
            )
            * lashes
        )
        bend = (root + tip) / 2 + [away * span * 0.012, span * 0.018]
        hair = smooth([root + [0, 1], bend, tip])
        brush.fill(ribbon(hair, np.linspace(3.0, 0.3, len(hair))), palette.lash, 0.95)


def paint_brows(
    brush: Brush, face: Face, palette: Palette, thick: float = 1.0, hairs: int = 46
) -> None:
    rng = np.random.default_rng(5)
    for side, away in ((RIGHT, -1), (LEFT, 1)):
        top = even(smooth(face[anatomy.BROW_TOP[side]]), 50)
        low = even(smooth(face[anatomy.BROW_BOTTOM[side]]), 50)
        middle = top * 0.5 + low * 0.5
        width = np.linalg.norm(top - low, axis=1).max() * 0.62 * thick
        t = np.linspace(0, 1, 50)  # from the outer end
        profile = (
            width * np.clip(t * 1.9 + 0.06, 0, 1) ** 0.8 * np.clip((1 - t) * 5 + 0.45, 0, 1) ** 0.7
        )
        body = ribbon(middle, profile)
        brush.fill(body, palette.brow, 0.45, 2.2)
        brush.fill(ribbon(middle, profile * 0.86), palette.brow, 0.72, 0.9)
        for _ in range(hairs):
            at = int(rng.uniform(2, 48))
            root = middle[at] + [0, profile[at] * rng.uniform(-0.1, 0.5)]
            long = width * rng.uniform(0.7, 1.15)
            way = np.array([away * (0.95 - 0.5 * t[at]), -0.35 - 0.5 * t[at]])
            hair = smooth([root, root + way * long * 0.5, root + way * long + [away * 2, 1.5]])
            colour = palette.brow if rng.uniform() < 0.75 else mix(palette.brow, palette.skin, 0.3)
            brush.fill(
                ribbon(hair, np.linspace(2.3, 0.3, len(hair))), colour, rng.uniform(0.5, 0.9)
            )


def paint_mouth(
    brush: Brush, face: Face, palette: Palette, shine: float = 1.0, tint: float = 1.0
) -> None:
    top, low = smooth(face[anatomy.UPPER_LIP]), smooth(face[anatomy.LOWER_LIP])
    between = smooth(np.vstack([face[61], face[anatomy.UPPER_EDGE], face[291]]))
    y0, y1 = top[:, 1].min(), low[:, 1].max()
    brush.ellipse((face[17] + face[18]) / 2 + [0, 6], 44, 9, palette.deep, 0.42, 8)
    upper_shape, lower_shape = np.vstack([top, between[::-1]]), np.vstack([between, low[::-1]])
    whole = np.vstack([top, low[::-1]])
    brush.fill(whole, mix(palette.lip, palette.shade, 0.4), 0.6 * tint, 3)
    brush.fill(
        upper_shape,
        linear(
            (0, y0),
            (0, face[13][1]),
            (0, mix(palette.lip, palette.skin, 0.12)),
            (1, palette.lip_dark),
        ),
        tint,
        0.7,
    )
    brush.fill(
        lower_shape,
        linear(
            (0, face[13][1]),
            (0, y1),
            (0, mix(palette.lip, palette.lip_dark, 0.45)),
            (0.45, palette.lip),
            (1, mix(palette.lip, palette.shade, 0.35)),
        ),
        tint,
        0.7,
    )
    with brush.inside(lower_shape):
        middle = (face[14] + face[17]) / 2
        brush.ellipse(middle + [-9, 0], 30, 6, mix(palette.lip, WHITE, 0.62), 0.62 * shine, 4)
        brush.ellipse(middle + [-12, -1], 12, 2.4, WHITE, 0.55 * shine, 1.5)
    with brush.inside(upper_shape):
        for x in (-11, 9):
            brush.ellipse(face[0] + [x, 9], 11, 3, mix(palette.lip, WHITE, 0.5), 0.4 * shine, 2.5)
    seam = mix(palette.lip_dark, BLACK, 0.45)
    brush.line(between, palette.lip_dark, 6, 0.35, 3)
    brush.stroke(between, seam, 5.0, 0.92, 0.6, power=0.45)
    for end, away in ((between[0], -1), (between[-1], 1)):
        brush.ellipse(end + [away * 2, 0], 6, 4.5, palette.deep, 0.55, 3)
        brush.stroke(
            smooth([end + [-away * 6, 0.5], end + [away * 2, -1], end + [away * 7, -4.5]]),
            seam,
            3.4,
            0.75,
            0.7,
        )
    brush.stroke(
        smooth([face[164] + [-5, -5], face[164] + [-6, 6], face[0] + [-8, -6]]),
        palette.shade,
        6,
        0.35,
        3,
    )
    brush.stroke(
        smooth([face[164] + [6, -5], face[164] + [7, 6], face[0] + [8, -6]]),
        palette.light,
        5,
        0.35,
        3,
    )


def paint_ears(brush: Brush, face: Face, palette: Palette, out: float = 0.9) -> None:
    for side, away in ((RIGHT, -1), (LEFT, 1)):
        root = face[234 if side == RIGHT else 454]
        shape = smooth(
            root
            + np.array(
                [
                    (4, -52),
                    (-16 * out, -62),
                    (-34 * out, -44),
                    (-33 * out, -8),
                    (-23 * out, 28),
                    (-10 * out, 52),
                    (5, 46),
                ]
            )
            * [-away, 1],
            closed=True,
        )
        brush.fill(
            shape, linear(root + [0, -60], root + [0, 55], (0, palette.skin), (1, palette.shade))
        )
        with brush.inside(shape):
            inner = smooth(
                root
                + np.array(
                    [(2, -34), (-15 * out, -44), (-22 * out, -30), (-20 * out, 0), (-8 * out, 18)]
                )
                * [-away, 1]
            )
            brush.line(inner, palette.deep, 8, 0.6, 3)
            brush.ellipse(root + np.array([-10 * out, 2]) * [-away, 1], 8, 18, palette.deep, 0.6, 4)
            brush.line(shape, palette.rim if away > 0 else palette.deep, 5, 0.45, 2.5, closed=True)
