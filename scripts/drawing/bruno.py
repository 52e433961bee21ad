"""Bruno: a full beard by lamplight."""

from __future__ import annotations

import numpy as np

from scripts.drawing import anatomy, hair, head
from scripts.drawing.anatomy import Face, Features
from scripts.drawing.brush import SIDE, Brush, dots, even, linear, mix, radial, rgb, smooth
from scripts.drawing.head import MULTIPLY, SCREEN, WHITE, Light, Palette

FEATURES = Features(
    jaw=0.98,
    cheeks=0.98,
    eye_width=1.30,
    eye_upper=0.74,
    eye_lower=0.44,
    eye_tilt=0.12,
    iris=0.76,
    brow_lift=0.10,
    brow_tilt=-0.05,
    nose=1.12,
    mouth=1.04,
    upper_lip=1.02,
    lower_lip=1.0,
    smile=0.30,
    long=1.02,
)
PALETTE = Palette(
    deep=rgb("#4a2018"),
    shade=rgb("#8e4a30"),
    skin=rgb("#c98557"),
    light=rgb("#f0b988"),
    blush=rgb("#b8492f"),
    lip=rgb("#c0655a"),
    lip_dark=rgb("#6a2a28"),
    iris_dark=rgb("#2f1408"),
    iris=rgb("#8a4a18"),
    iris_light=rgb("#e8a24c"),
    lash=rgb("#160a0a"),
    brow=rgb("#22120f"),
    lid=rgb("#7a3c2a"),
    rim=rgb("#36c6d8"),
)
LIGHT = Light(key=(-0.5, -0.42, -0.76), rim_strength=0.9)
HAIR = [rgb(it) for it in ("#140a0c", "#26130f", "#41231a", "#6e3d24", "#b06a38", "#e8ab6a")]


def background(brush: Brush) -> None:
    brush.wash(
        linear(
            (0, 0),
            (SIDE, SIDE),
            (0, rgb("#f2a541")),
            (0.4, rgb("#c2562d")),
            (0.72, rgb("#5c2438")),
            (1, rgb("#1c1a3c")),
        )
    )
    glow = (180, 200)
    brush.ellipse(
        glow,
        620,
        620,
        radial(
            glow,
            620,
            (0, rgb("#ffe9a8"), 0.95),
            (0.35, rgb("#ffc45c"), 0.5),
            (1, rgb("#ff9a3c"), 0.0),
        ),
        mode=SCREEN,
    )
    dice = np.random.default_rng(11)
    for _ in range(60):  # lights, far away
        x, y, r = dice.uniform(0, SIDE), dice.uniform(0, SIDE * 0.75), dice.uniform(14, 62)
        if np.hypot(x - 512, (y - 440) * 0.75) < 285 + r:
            continue  # behind the head nothing is to be cut off
        colour = [rgb("#ffd27a"), rgb("#ff9d5c"), rgb("#47c4d0"), rgb("#ff6f61")][dice.integers(4)]
        strength = dice.uniform(0.08, 0.28)
        brush.ellipse((x, y), r, r, colour, strength, 1.5, SCREEN)
        brush.line(
            np.array([x, y])
            + r * np.stack([np.cos(np.linspace(0, 6.3, 60)), np.sin(np.linspace(0, 6.3, 60))], 1),
            colour,
            2,
            strength,
            1,
            SCREEN,
        )


def person(brush: Brush) -> Face:
    face = Face(FEATURES)
    rng = np.random.default_rng(8)
    _body(brush)
    _back(brush)
    head.paint_ears(brush, face, PALETTE, 0.8)
    head.paint_skin(brush, face, PALETTE, LIGHT)
    head.paint_nose(brush, face, PALETTE)
    head.paint_eyes(brush, face, PALETTE, lashes=0.3, lines=0.9)
    _beard(brush, face, rng)
    head.paint_mouth(brush, face, PALETTE, shine=0.5)
    _moustache(brush, face, rng)
    head.paint_brows(brush, face, PALETTE, 1.45, 90)
    _hair(brush, face, rng)
    return face


def _back(brush: Brush) -> None:
    skull = smooth(
        dots("512,168 620,184 690,270 700,400 680,520 344,520 324,400 334,270 404,184"),
        closed=True,
    )
    brush.fill(skull, HAIR[1])


def _body(brush: Brush) -> None:
    neck = smooth(
        dots("408,600 404,740 380,830 300,900 512,1200 724,900 644,830 620,740 616,600"),
        closed=True,
    )
    brush.fill(
        neck, linear((380, 0), (660, 0), (0, PALETTE.skin), (0.5, PALETTE.shade), (1, PALETTE.deep))
    )
    with brush.inside(neck):
        brush.fill(
            smooth(dots("380,600 400,740 512,830 624,760 660,600"), closed=True),
            PALETTE.deep,
            0.8,
            14,
        )
    knit, dark, pale = rgb("#1f6f6b"), rgb("#0c2f3a"), rgb("#4fb8a2")
    body = smooth(
        dots("392,806 300,850 180,890 84,960 40,1090 984,1090 940,960 844,890 724,850 632,806"),
        closed=True,
    )
    brush.fill(body, linear((120, 860), (880, 1040), (0, pale), (0.3, knit), (1, dark)))
    with brush.inside(body):
        for x in range(-60, 1090, 17):  # ribs
            line = smooth([(512 + (x - 512) * 0.72, 800), (512 + (x - 512) * 0.92, 920), (x, 1060)])
            brush.stroke(line, dark, 6, 0.42, 1.5, start=1, end=1)
            brush.stroke(line + [-6, 0], pale, 3, 0.28, 1, start=1, end=1)
        brush.fill(
            smooth(
                dots("380,790 420,900 512,940 604,900 644,790 760,900 512,1040 264,900"),
                closed=True,
            ),
            dark,
            0.55,
            24,
            MULTIPLY,
        )
        right = body[body[:, 0] > 640]
        brush.line(right, PALETTE.rim, 18, 0.8, 8, SCREEN)
        brush.line(right, mix(PALETTE.rim, WHITE, 0.4), 5, 0.9, 1.5, SCREEN)
        left = body[body[:, 0] < 400]
        brush.line(left, rgb("#ffc45c"), 14, 0.6, 7, SCREEN)
    collar = smooth(
        dots(
            "400,752 386,790 382,850 440,894 512,906 584,894 642,850 638,790 624,752 "
            "580,796 512,812 444,796"
        ),
        closed=True,
    )
    brush.fill(collar + [0, 9], dark, 0.7, 9)
    brush.fill(collar, linear((390, 0), (640, 0), (0, pale), (0.35, knit), (1, dark)))
    with brush.inside(collar):
        for t in np.linspace(0, 1, 26):
            x, bow = 388 + 248 * t, 52 * np.sin(np.pi * t)
            line = smooth(
                [
                    (x, 745 + bow),
                    (512 + (x - 512) * 1.03, 800 + bow),
                    (512 + (x - 512) * 1.05, 862 + bow),
                ]
            )
            brush.stroke(line, dark, 5, 0.5, 1.2, start=1, end=1)
            brush.stroke(line + [-4, 0], pale, 2.4, 0.3, 0.8, start=1, end=1)
        brush.line(collar, mix(pale, WHITE, 0.3), 4, 0.5, 1.2, closed=True)


def _hair(brush: Brush, face: Face, rng: np.random.Generator) -> None:
    """Short at the sides, swept up and over to the left."""
    for away in (-1, 1):
        side = [
            hair.mirrored(it, away)
            for it in (
                dots("176,300 188,380 184,450 176,510"),
                dots("150,320 168,380 168,440 166,500"),
            )
        ]
        shape = np.vstack(
            [
                hair.mirrored(dots("150,290 184,300 190,380 187,450 177,510"), away),
                hair.mirrored(dots("164,520 164,440 160,372 152,320"), away),
            ]
        )
        brush.fill(shape, HAIR[1], 0.95, 2)
        brush.locks(rng, side, 80, HAIR[1:4], (2, 5), (0.3, 0.7), least=0.15, wave=1)
    guides = [
        smooth(it)
        for it in (
            dots("694,350 704,270 676,190 600,128 490,106 384,132 330,196 322,290"),
            dots("688,346 686,282 650,214 576,160 480,142 390,168 344,226 330,306"),
            dots("678,338 664,290 618,240 550,200 468,190 396,210 354,258 336,322"),
            dots("664,322 636,290 586,262 520,248 456,248 402,260 364,292 344,338"),
        )
    ]
    edge = head.outline(face)
    with brush.inside(edge):
        hair.shadow(brush, guides, PALETTE.deep, (4, 18), 10, 0.7)
    low = smooth(
        dots(
            "322,290 326,380 338,372 350,326 378,294 424,272 512,264 596,272 644,296 "
            "672,328 684,372 698,380 702,270 650,180 512,130 370,170"
        ),
        closed=True,
    )
    brush.fill(low, HAIR[1], 1, 1.5)
    hair.mass(
        brush, rng, guides, HAIR, dense=1.5, bands=((0.45, 0.75), (0.12, 0.3)), width=0.9, gleam=0.8
    )
    brush.locks(
        rng,
        guides,
        26,
        [PALETTE.rim],
        (1.2, 3),
        (0.3, 0.7),
        (0.06, 0.36),
        least=0.3,
        share=(0, 0.16),
        mode=SCREEN,
    )
    brush.locks(
        rng,
        guides,
        20,
        [rgb("#ffc45c")],
        (1.2, 3),
        (0.3, 0.7),
        (0.6, 0.96),
        least=0.3,
        share=(0, 0.10),
        mode=SCREEN,
    )
    hair.wisps(brush, rng, (guides[0], guides[3]), HAIR[1:4], 12, 12)


def _beard(brush: Brush, face: Face, rng: np.random.Generator) -> None:
    jaw = [
        face[i]
        for i in (
            454,
            323,
            361,
            288,
            397,
            365,
            379,
            378,
            400,
            377,
            152,
            148,
            176,
            149,
            150,
            136,
            172,
            58,
            132,
            93,
            234,
        )
    ]
    middle = face[152]
    out = smooth(
        [
            p + (p - face[1]) * [0.035, 0.10] * [1, np.clip((p[1] - face[1][1]) / 150, 0, 1)]
            for p in jaw
        ]
    )
    cheek = smooth(
        [
            face[234] + [4, 0],
            face[93] + [20, 2],
            face[132] + [40, -4],
            face[214] + [2, 10],
            face[186] + [-8, 6],
            face[61] + [-10, -14],
            face[164] + [0, 2],
            face[291] + [10, -14],
            face[410] + [8, 6],
            face[434] + [-2, 10],
            face[361] + [-40, -4],
            face[323] + [-20, 2],
            face[454] + [-4, 0],
        ]
    )
    shape = np.vstack([out, cheek])
    gap = smooth(
        np.vstack([face[anatomy.UPPER_LIP] + [0, -2], (face[anatomy.LOWER_LIP] + [0, 5])[::-1]]),
        closed=True,
    )
    brush.fill(shape, HAIR[1], 0.62, 9)
    brush.fill(
        shape + (middle - shape) * 0.02,
        linear((330, 0), (700, 0), (0, HAIR[3]), (0.35, HAIR[2]), (1, HAIR[0])),
        0.92,
        4,
    )
    root = np.array([512, 470])
    count = 2600
    for _ in range(count):
        t, depth = rng.uniform(0, 1), rng.uniform(0, 1) ** 0.8
        a = out[int(t * (len(out) - 1))]
        b = cheek[::-1][int(t * (len(cheek) - 1))]
        at = b + (a - b) * depth
        way = (at - root) / np.linalg.norm(at - root)
        way = way * [0.55, 1.0] + [rng.uniform(-0.25, 0.25), 0.25]
        long = rng.uniform(12, 30) * (0.5 + 0.6 * depth)
        bend = np.array([rng.uniform(-5, 5), 0])
        line = smooth([at - way * long * 0.4, at + way * long * 0.3 + bend, at + way * long])
        lightness = np.clip(1.1 - (at[0] - 330) / 340, 0, 1)
        tones = HAIR[:3] if rng.uniform() > 0.5 * lightness else HAIR[2:5]
        brush.stroke(
            even(line, 12),
            tones[rng.integers(len(tones))],
            rng.uniform(1.2, 3.2),
            rng.uniform(0.35, 0.85),
        )
    right = out[out[:, 0] > 560]
    for _ in range(70):
        at = right[rng.integers(len(right))] + [rng.uniform(-8, 3), rng.uniform(-4, 3)]
        brush.stroke(
            smooth([at, at + [2, 10], at + [rng.uniform(-4, 3), 22]]),
            PALETTE.rim,
            rng.uniform(1.2, 2.6),
            rng.uniform(0.4, 0.9),
            mode=SCREEN,
        )
    brush.fill(gap, PALETTE.shade, 0.9, 3)


def _moustache(brush: Brush, face: Face, rng: np.random.Generator) -> None:
    brush.ellipse(face[164] + [0, 4], 16, 9, HAIR[1], 0.8, 4)
    for away, corner, lip in ((-1, face[61], face[37]), (1, face[291], face[267])):
        start = face[164] + [-away * 2, -2]
        guides = [
            smooth(
                [
                    start + [0, -8],
                    start + [away * 28, -7],
                    corner + [away * 2, -28],
                    corner + [away * 20, 8],
                    corner + [away * 20, 42],
                ]
            ),
            smooth(
                [
                    start + [0, 10],
                    lip + [away * 4, -8],
                    face[40 if away < 0 else 270] + [away * 2, -8],
                    corner + [away * 7, -5],
                    corner + [away * 8, 34],
                ]
            ),
        ]
        brush.fill(np.vstack([guides[0], guides[1][::-1]]), HAIR[1], 0.8, 3)
        brush.locks(
            rng,
            guides,
            150,
            HAIR[:4] if away > 0 else HAIR[:5],
            (1.4, 4),
            (0.35, 0.85),
            least=0.25,
            wave=2,
        )
