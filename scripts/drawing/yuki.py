"""Yuki: silver hair, a cat-eared headset, neon."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from scripts.drawing import hair, head
from scripts.drawing.anatomy import Face, Features
from scripts.drawing.brush import SIDE, Brush, Points, dots, even, linear, mix, radial, rgb, smooth
from scripts.drawing.head import MULTIPLY, SCREEN, WHITE, Light, Palette

FEATURES = Features(
    jaw=0.70,
    cheeks=0.97,
    eye_width=1.54,
    eye_upper=1.12,
    eye_lower=0.52,
    eye_tilt=0.20,
    iris=1.04,
    eye_apart=0.08,
    brow_lift=0.40,
    brow_tilt=0.06,
    nose=0.74,
    mouth=0.82,
    upper_lip=0.86,
    lower_lip=0.92,
    smile=0.26,
    long=0.97,
)
PALETTE = Palette(
    deep=rgb("#8a4a8c"),
    shade=rgb("#e0a0b4"),
    skin=rgb("#fddccd"),
    light=rgb("#fff3ea"),
    blush=rgb("#ff7a92"),
    lip=rgb("#e8647e"),
    lip_dark=rgb("#a63058"),
    iris_dark=rgb("#3a1470"),
    iris=rgb("#8a3fe0"),
    iris_light=rgb("#6ff0ff"),
    lash=rgb("#251238"),
    brow=rgb("#6a5a94"),
    lid=rgb("#c878b0"),
    rim=rgb("#4ae8ff"),
)
LIGHT = Light(hard=0.55, rim_strength=0.85)
HAIR = [rgb(it) for it in ("#3c2f72", "#6658a8", "#a094d8", "#cfc8f4", "#efeaff", "#ffffff")]
ROOT = 330.0  # above this the head is lower than a grown-up's
PINK, CYAN = rgb("#ff4fa3"), rgb("#4ae8ff")


def _low(points: Points, share: float = 0.84) -> Points:
    points = np.array(points, float)
    points[:, 1] = np.where(points[:, 1] < ROOT, ROOT - (ROOT - points[:, 1]) * share, points[:, 1])
    return points


def background(brush: Brush) -> None:
    brush.wash(
        linear((0, 0), (0, SIDE), (0, rgb("#150f3a")), (0.55, rgb("#3a1f78")), (1, rgb("#8a2f9a")))
    )
    for centre, colour, size in (((160, 420), PINK, 520), ((880, 300), CYAN, 480)):
        brush.ellipse(
            centre,
            size,
            size,
            radial(centre, size, (0, colour, 0.55), (1, colour, 0.0)),
            mode=SCREEN,
        )
    for turn, colour in ((0, PINK), (1, CYAN)):
        ring = np.array([512, 440]) + (426 + 32 * turn) * np.stack(
            [np.cos(np.linspace(0, 6.3, 120)), np.sin(np.linspace(0, 6.3, 120))], 1
        )
        brush.line(ring, colour, 16, 0.5, 14, SCREEN)
        brush.line(ring, mix(colour, WHITE, 0.5), 5, 0.9, 1)


def person(brush: Brush) -> Face:
    face = Face(FEATURES)
    rng = np.random.default_rng(4)
    _back_hair(brush, rng)
    _body(brush)
    head.paint_skin(brush, face, PALETTE, LIGHT)
    head.paint_nose(brush, face, PALETTE)
    head.paint_eyes(brush, face, PALETTE)
    head.paint_brows(brush, face, PALETTE, 0.85, 20)
    head.paint_mouth(brush, face, PALETTE)
    _ears(brush)
    _front_hair(brush, face, rng)
    _headset(brush)
    return face


def _back_hair(brush: Brush, rng: np.random.Generator) -> None:
    shape = smooth(
        dots(
            "512,130 640,150 730,260 756,420 770,560 812,700 836,860 800,1000 512,1040 "
            "224,1000 188,860 212,700 254,560 268,420 294,260 384,150"
        ),
        closed=True,
    )
    shape = _low(shape)
    brush.fill(
        shape,
        linear((0, 300), (0, 1000), (0, HAIR[1]), (0.5, HAIR[0]), (1, mix(HAIR[0], PINK, 0.25))),
    )
    for away in (-1, 1):
        guides = [
            hair.mirrored(it, away)
            for it in (
                dots("236,420 262,560 310,700 336,860 290,1030"),
                dots("180,480 200,620 236,740 250,880 220,1030"),
                dots("80,620 100,720 120,840 130,1030"),
            )
        ]
        brush.locks(rng, guides, 90, HAIR[:3], (6, 20), (0.3, 0.7), wave=6)
        brush.locks(rng, guides, 60, HAIR[2:4], (2, 8), (0.2, 0.5), wave=6)
        hair.rim(
            brush, rng, guides, CYAN if away > 0 else PINK, (0.05, 0.95), 24, (1.5, 5), (0, 0.1)
        )


def _body(brush: Brush) -> None:
    neck = smooth(
        dots("456,620 458,730 446,800 400,840 512,1100 624,840 578,800 566,730 568,620"),
        closed=True,
    )
    brush.fill(
        neck,
        linear(
            (0, 650),
            (0, 900),
            (0, PALETTE.deep),
            (0.35, PALETTE.shade),
            (0.8, PALETTE.skin),
            (1, PALETTE.skin),
        ),
    )
    with brush.inside(neck):
        brush.fill(
            smooth(
                dots("400,600 430,690 505,800 560,770 640,690 640,600"),
                closed=True,
            ),
            PALETTE.deep,
            0.65,
            8,
            MULTIPLY,
        )
    shirt = smooth(
        dots("410,858 440,896 512,916 584,896 614,858 690,1100 334,1100"),
        closed=True,
    )
    brush.fill(shirt, linear((0, 880), (0, 1024), (0, rgb("#46307c")), (1, rgb("#1c1440"))))
    brush.line(
        smooth(dots("410,858 440,896 512,916 584,896 614,858")),
        rgb("#8a6ad0"),
        5,
        0.8,
        1,
    )
    white, grey, dark = rgb("#f4f0ff"), rgb("#b8a8e0"), rgb("#3a2a70")
    hood = smooth(
        dots(
            "430,800 330,800 250,850 160,910 110,1090 914,1090 864,910 774,850 694,800 "
            "594,800 600,880 512,1000 424,880"
        ),
        closed=True,
    )
    brush.fill(
        hood,
        linear((150, 830), (860, 1040), (0, white), (0.45, rgb("#d8ccf4")), (1, rgb("#7a62b8"))),
    )
    with brush.inside(hood):
        for away in (-1, 1):
            roll = hair.mirrored(
                dots("84,800 190,812 236,870 180,960 60,1050 -10,1090 40,980 100,880"),
                away,
                closed=True,
            )
            brush.fill(roll + [away * 8, 14], dark, 0.45, 12)
            brush.fill(
                roll,
                linear(
                    (512 + away * 60, 800),
                    (512 + away * 230, 960),
                    (0, grey if away > 0 else white),
                    (1, white if away < 0 else grey),
                ),
            )
            brush.line(roll, dark, 3, 0.35, 1, closed=True)
            cord = smooth(
                [(512 + away * 62, 940), (512 + away * 70, 1000), (512 + away * 62, 1060)]
            )
            brush.line(cord, PINK if away < 0 else CYAN, 9, 1)
            brush.line(cord + [-2, 0], WHITE, 2.5, 0.7)
            fold = smooth(
                [(512 + away * 290, 880), (512 + away * 310, 980), (512 + away * 296, 1080)]
            )
            brush.stroke(fold, dark, 24, 0.35, 10)
        for colour, away in ((PINK, -1), (CYAN, 1)):
            part = hood[(hood[:, 0] - 512) * away > 190]
            brush.line(part, colour, 20, 0.8, 9, SCREEN)
            brush.line(part, colour, 14, 0.55, 6)


def _front_hair(brush: Brush, face: Face, rng: np.random.Generator) -> None:
    crown = _low(
        smooth(
            dots(
                "512,120 630,138 712,220 736,330 700,330 620,250 512,236 404,250 324,330 "
                "288,330 312,220 394,138"
            ),
            closed=True,
        )
    )
    sides = [
        [
            _low(hair.mirrored(it, away))
            for it in (
                dots("30,118 150,134 214,230 226,350 232,480 244,600 262,720 236,850"),
                dots("26,130 140,160 190,260 200,370 204,480 212,600 226,700 206,800"),
                dots("20,150 118,200 160,300 172,390 174,480 176,570 182,650 166,730"),
            )
        ]
        for away in (-1, 1)
    ]
    fringe = [
        _low(smooth(it))
        for it in (
            dots("524,122 420,140 342,210 316,300 318,400 336,500"),
            dots("524,124 436,150 368,214 346,290 342,350 350,402"),
            dots("524,126 452,160 400,220 384,280 382,320 390,352"),
            dots("524,128 470,170 432,226 424,276 426,312 436,344"),
            dots("524,130 490,180 466,230 464,276 470,310 482,342"),
            dots("524,132 512,184 504,232 508,276 516,308 526,338"),
            dots("524,130 540,180 550,230 556,276 560,310 562,342"),
            dots("524,128 566,170 594,226 602,276 602,312 596,344"),
            dots("524,126 586,160 634,220 648,280 648,320 638,354"),
            dots("524,124 604,150 668,214 688,290 690,350 680,404"),
            dots("524,122 620,140 694,210 718,300 714,400 694,500"),
        )
    ]
    with brush.inside(head.outline(face)):
        for guides in sides:
            hair.shadow(brush, guides, PALETTE.deep, (4, 14), 8, 0.5)
        for shape in _points(fringe):
            brush.fill(shape + [3, 14], PALETTE.deep, 0.5, 6, MULTIPLY)
    brush.fill(crown, HAIR[2])
    for guides, colour in zip(sides, (PINK, CYAN), strict=True):
        hair.mass(brush, rng, guides, HAIR, bands=((0.14, 0.34), (0.6, 0.8)))
        hair.rim(brush, rng, guides, colour, (0.1, 0.96), 30, (1.5, 5))
        brush.locks(rng, guides, 40, [colour], (3, 12), (0.15, 0.45), (0.72, 1.0), least=0.5)
    _fringe(brush, rng, fringe)


def _points(guides: list[np.ndarray]) -> list[np.ndarray]:
    """Pointed locks, each between two guides, the outer ones first."""
    pairs = sorted(pairwise(guides), key=lambda it: -abs(it[0][-1][0] - 524))
    found = []
    for one, other in pairs:
        tip = (
            one[-1] * 0.4 + other[-1] * 0.6 + [0, 24]
            if one[-1][0] < 524
            else one[-1] * 0.6 + other[-1] * 0.4 + [0, 24]
        )
        sides = [even(smooth(np.vstack([side[:-14:9], tip])), 60) for side in (one, other)]
        found.append(np.vstack([sides[0], sides[1][::-1]]))
    return found


def _fringe(brush: Brush, rng: np.random.Generator, guides: list[np.ndarray]) -> None:
    for shape in _points(guides):
        a, b = shape[:60], shape[60:][::-1]
        brush.fill(shape + [1, 6], HAIR[0], 0.45, 5)
        brush.fill(
            shape,
            linear((0, 130), (0, 390), (0, HAIR[2]), (0.35, HAIR[3]), (0.6, HAIR[4]), (1, HAIR[2])),
        )
        with brush.inside(shape):
            brush.locks(rng, [a, b], 14, HAIR[1:3], (2, 6), (0.25, 0.6), least=0.5, wave=1.5)
            brush.locks(
                rng, [a, b], 20, HAIR[4:], (1.5, 5), (0.4, 0.9), (0.40, 0.70), least=0.5, wave=1
            )
        brush.stroke(a, HAIR[1], 3.0, 0.75, 0.5)
        brush.stroke(b, HAIR[5], 2.0, 0.45, 0.5)


SHELL, DARK, PALE = rgb("#2a2350"), rgb("#120e2c"), rgb("#8a7ce0")  # of the headset


def _ears(brush: Brush) -> None:
    for away, glow in ((-1, PINK), (1, CYAN)):
        ear = _low(
            hair.mirrored(dots("92,142 112,60 150,18 196,92 214,196 160,176"), away, closed=True),
            0.80,
        )
        inner = _low(
            hair.mirrored(dots("120,136 132,84 152,56 176,104 188,166 152,150"), away, closed=True),
            0.80,
        )
        brush.fill(ear, linear((0, 20), (0, 190), (0, PALE), (0.5, SHELL), (1, DARK)))
        brush.fill(inner, linear((0, 50), (0, 170), (0, mix(glow, WHITE, 0.5)), (1, glow)))
        brush.line(inner, glow, 10, 0.6, 6, SCREEN, closed=True)
        brush.line(ear, mix(PALE, WHITE, 0.3), 3, 0.7, 0.8, closed=True)


def _headset(brush: Brush) -> None:
    band = _low(
        smooth(dots("268,420 276,300 330,190 420,126 512,108 604,126 694,190 748,300 756,420"))
    )
    brush.line(band, DARK, 34, 1)
    brush.line(band + [0, -3], SHELL, 26, 1)
    brush.line(band + [0, -8], PALE, 7, 0.8, 2)
    for away, glow in ((-1, PINK), (1, CYAN)):
        cup = (512 + away * 250, 462)
        brush.ellipse(cup, 46, 84, DARK)
        brush.ellipse(
            (cup[0], cup[1] - 2),
            40,
            78,
            linear((cup[0] - 40, 380), (cup[0] + 40, 540), (0, PALE), (0.5, SHELL), (1, DARK)),
        )
        ring = np.array(cup) + np.stack(
            [25 * np.cos(np.linspace(0, 6.3, 60)), 52 * np.sin(np.linspace(0, 6.3, 60))], 1
        )
        brush.line(ring, glow, 14, 0.7, 7, SCREEN)
        brush.line(ring, mix(glow, WHITE, 0.55), 5, 1)
