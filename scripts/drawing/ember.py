"""Ember: a copper bob before a setting sun."""

from __future__ import annotations

import numpy as np

from scripts.drawing import hair, head
from scripts.drawing.anatomy import Face, Features
from scripts.drawing.brush import SIDE, Brush, dots, linear, mix, radial, rgb, smooth
from scripts.drawing.head import BLACK, MULTIPLY, SCREEN, Light, Palette

FEATURES = Features(
    jaw=0.74,
    cheeks=0.96,
    eye_width=1.42,
    eye_upper=0.98,
    eye_lower=0.50,
    eye_tilt=0.26,
    iris=0.92,
    brow_lift=0.42,
    brow_tilt=0.02,
    nose=0.86,
    mouth=0.98,
    upper_lip=1.12,
    lower_lip=1.15,
    smile=0.28,
)
PALETTE = Palette(
    deep=rgb("#96485a"),
    shade=rgb("#e39a86"),
    skin=rgb("#fdd2b4"),
    light=rgb("#ffecd8"),
    blush=rgb("#f0705e"),
    lip=rgb("#dc4a5c"),
    lip_dark=rgb("#9a2742"),
    iris_dark=rgb("#0f4b4e"),
    iris=rgb("#1f9c8d"),
    iris_light=rgb("#8ff0cf"),
    lash=rgb("#2a1220"),
    brow=rgb("#7a2a22"),
    lid=rgb("#c0606a"),
    rim=rgb("#ff9d5c"),
)
LIGHT = Light()
HAIR = [rgb(it) for it in ("#4a1028", "#7d1d2c", "#b5352a", "#e05f2c", "#ff9a4a", "#ffd79a")]

LEFT_MASS = [
    smooth(it)
    for it in (
        dots("562,112 468,112 366,160 298,262 268,390 250,520 230,640 246,750 206,862"),
        dots("570,170 480,160 394,206 330,300 300,425 286,540 268,650 286,765 262,880"),
        dots("578,214 504,226 430,272 366,345 332,440 320,530 306,620 312,710 330,800"),
        dots("586,262 540,282 466,318 394,372 346,446 330,530 322,610 326,690 352,770"),
    )
]
RIGHT_MASS = [
    smooth(it)
    for it in (
        dots("554,112 644,122 730,190 766,310 774,440 788,570 808,680 788,780 830,880"),
        dots("564,172 650,166 708,246 728,362 734,476 752,600 766,700 746,790 776,884"),
        dots("574,216 632,232 680,300 700,390 704,480 714,570 722,660 702,745 722,846"),
        dots("586,262 628,276 662,322 682,396 688,476 694,560 702,640 690,710 700,780"),
    )
]


def background(brush: Brush) -> None:
    brush.wash(
        linear(
            (0, 0),
            (0, SIDE),
            (0, rgb("#2b1d52")),
            (0.45, rgb("#7a2f78")),
            (0.8, rgb("#e8656f")),
            (1, rgb("#ffb06a")),
        )
    )
    sun = (512, 430)
    brush.ellipse(
        sun, 620, 620, radial(sun, 620, (0.6, rgb("#ff9a70"), 0.35), (1, rgb("#ff9a70"), 0.0))
    )
    brush.ellipse(
        sun,
        420,
        420,
        # Straight down: so it runs on by itself where the head leaves it.
        linear((0, 10), (0, 850), (0, rgb("#ffd98a")), (0.5, rgb("#ffa06c")), (1, rgb("#ff6a78"))),
    )


def person(brush: Brush) -> Face:
    face = Face(FEATURES)
    rng = np.random.default_rng(3)
    _back_hair(brush, rng)
    _body(brush)
    head.paint_skin(brush, face, PALETTE, LIGHT)
    head.paint_freckles(brush, face, rgb("#c9714e"), rng)
    head.paint_nose(brush, face, PALETTE)
    head.paint_eyes(brush, face, PALETTE)
    head.paint_brows(brush, face, PALETTE)
    head.paint_mouth(brush, face, PALETTE)
    _front_hair(brush, face, rng)
    return face


def _back_hair(brush: Brush, rng: np.random.Generator) -> None:
    shape = smooth(
        dots(
            "540,114 640,138 716,210 742,370 758,500 782,610 780,760 760,880 640,900 "
            "512,900 384,900 278,880 252,760 252,610 270,500 286,370 320,240 420,146"
        ),
        closed=True,
    )
    brush.fill(
        shape,
        linear(
            (0, 180),
            (0, 800),
            (0, HAIR[1]),
            (0.5, mix(HAIR[0], HAIR[1], 0.3)),
            (1, mix(HAIR[0], BLACK, 0.35)),
        ),
    )
    for away in (-1, 1):
        guides = [
            hair.mirrored(dots("230,520 252,640 235,780 215,900"), away),
            hair.mirrored(dots("70,620 90,700 80,800 60,880"), away),
        ]
        brush.locks(
            rng,
            guides,
            70,
            [mix(HAIR[0], BLACK, 0.3), HAIR[0], HAIR[1]],
            (6, 18),
            (0.4, 0.8),
            wave=5,
        )
        brush.locks(rng, guides, 40, HAIR[1:3], (2, 6), (0.15, 0.45), wave=5)


def _body(brush: Brush) -> None:
    neck = smooth(
        dots(
            "446,620 450,720 440,800 408,836 420,940 512,1200 604,940 616,836 584,800 "
            "574,720 578,620"
        ),
        closed=True,
    )
    brush.fill(
        neck,
        linear(
            (0, 640),
            (0, 930),
            (0, PALETTE.deep),
            (0.32, PALETTE.shade),
            (0.75, PALETTE.skin),
            (1, PALETTE.skin),
        ),
    )
    with brush.inside(neck):
        brush.fill(
            smooth(
                dots("400,600 428,690 500,790 560,770 640,700 640,600"),
                closed=True,
            ),
            PALETTE.deep,
            0.7,
            10,
            MULTIPLY,
        )
        brush.fill(
            smooth(dots("560,690 640,690 640,900 590,860 570,780"), closed=True),
            PALETTE.deep,
            0.4,
            14,
            MULTIPLY,
        )
        for away in (-1, 1):
            brush.stroke(
                smooth([(512 + away * 62, 730), (512 + away * 46, 810), (512 + away * 14, 874)]),
                PALETTE.deep,
                10,
                0.30,
                6,
            )
            brush.stroke(
                smooth([(512 + away * 18, 882), (512 + away * 70, 858), (512 + away * 150, 850)]),
                PALETTE.light,
                9,
                0.6,
                4,
            )
            brush.stroke(
                smooth([(512 + away * 18, 892), (512 + away * 70, 872), (512 + away * 150, 866)]),
                PALETTE.deep,
                8,
                0.25,
                5,
            )
    coat = smooth(
        dots(
            "420,792 340,834 214,872 128,940 92,1080 932,1080 896,940 810,872 684,834 "
            "604,792 622,860 590,940 512,1080 434,940 402,860"
        ),
        closed=True,
    )
    blue, dark, pale = rgb("#24508a"), rgb("#122452"), rgb("#4f9ac6")
    brush.fill(coat, linear((150, 830), (820, 1060), (0, pale), (0.3, blue), (1, dark)))
    with brush.inside(coat):
        for away in (-1, 1):
            fold = [
                hair.mirrored(it, away)
                for it in (
                    dots("250,880 270,960 262,1040"),
                    dots("340,900 330,980 345,1040"),
                    dots("170,880 190,980 160,1040"),
                )
            ]
            for line in fold:
                brush.stroke(line, dark, 26, 0.5, 10)
                brush.stroke(line + [-12, 0], pale, 10, 0.35, 6)
        brush.line(coat, PALETTE.rim, 16, 0.7, 7, SCREEN, closed=True)
        brush.line(coat, rgb("#ffd9a8"), 5, 0.7, 1.5, SCREEN, closed=True)
    for away in (-1, 1):
        lapel = hair.mirrored(
            dots("92,786 150,822 186,880 140,950 60,1080 -6,1080 62,960 104,870"), away, closed=True
        )
        brush.fill(lapel + [away * 4, 10], dark, 0.6, 8)
        brush.fill(
            lapel,
            linear(
                (512 + away * 60, 800),
                (512 + away * 190, 1000),
                (0, mix(blue, dark, 0.3)),
                (1, pale if away < 0 else blue),
            ),
        )
        with brush.inside(lapel):
            brush.line(lapel, rgb("#8fd0ea") if away < 0 else pale, 4, 0.7, 1, closed=True)
    chain = smooth(dots("438,818 470,880 512,906 554,880 586,818"))
    brush.line(chain + [0, 3], PALETTE.deep, 3, 0.5, 2)
    brush.line(chain, rgb("#ffd27a"), 2.6)
    brush.ellipse(
        (512, 918),
        11,
        13,
        radial((508, 913), 16, (0, rgb("#d8fff2")), (0.5, rgb("#34c8b0")), (1, rgb("#0e5d62"))),
    )
    brush.line(
        np.array([512, 918])
        + np.stack([11 * np.cos(np.linspace(0, 6.3, 40)), 13 * np.sin(np.linspace(0, 6.3, 40))], 1),
        rgb("#ffd27a"),
        2.4,
        closed=True,
    )


def _front_hair(brush: Brush, face: Face, rng: np.random.Generator) -> None:
    edge = head.outline(face)
    with brush.inside(edge):
        for guides in (LEFT_MASS, RIGHT_MASS):
            hair.shadow(brush, guides, PALETTE.deep, (6, 16), 10, 0.55)
    crown = smooth(
        dots("506,119 540,113 564,111 592,114 616,123 590,220 530,220"),
        closed=True,
    )
    brush.fill(crown, linear((0, 100), (0, 240), (0, HAIR[2]), (1, HAIR[1])))
    for guides in (RIGHT_MASS, LEFT_MASS):
        hair.mass(brush, rng, guides, HAIR, bands=((0.10, 0.36), (0.58, 0.82)))
        hair.rim(brush, rng, guides, rgb("#ff9d4c"), (0.05, 0.96), 26, (1.0, 3.2), (0, 0.07))
        hair.wisps(brush, rng, (guides[0], guides[-1]), HAIR[3:5], 7)
    parting = smooth([guide[0] for guide in LEFT_MASS])
    brush.stroke(parting, HAIR[0], 9, 0.6, 3, start=0.5, end=1)
    brush.stroke(parting + [1, 0], mix(PALETTE.shade, HAIR[1], 0.5), 3, 0.8, 0.6, start=0.3, end=1)
