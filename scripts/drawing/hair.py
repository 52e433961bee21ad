"""Hair, as masses of locks that flow between guides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import skia

from scripts.drawing.brush import SIDE, Brush, Colour, Points, linear, mix, smooth

MIDDLE = SIDE / 2

Tones = Sequence[Colour]  # from the darkest to the lightest


def mirrored(points: Points, away: int, closed: bool = False) -> Points:
    """The curve of what is told as it lies right of the picture's middle, on either side."""
    return smooth(points * [away, 1] + [MIDDLE, 0], closed)


def mass(
    brush: Brush,
    rng: np.random.Generator,
    guides: Sequence[Points],
    tones: Tones,
    dense: float = 1.0,
    bands: Sequence[tuple[float, float]] = ((0.12, 0.42),),
    width: float = 1.0,
    gleam: float = 1.0,
) -> None:
    """One body of hair: its shade, its locks, where light lies on it (`bands`, of its length)."""
    one, other = guides[0], guides[-1]
    most = round(len(one) * 0.84)  # its end is of locks alone
    shape = np.vstack([one[:most], other[:most][::-1]])
    y0, y1 = shape[:, 1].min(), shape[:, 1].max()
    brush.fill(
        shape,
        linear((0, y0), (0, y1), (0, tones[2]), (0.4, tones[1]), (1, mix(tones[0], tones[1], 0.4))),
    )
    w = width
    brush.locks(
        rng,
        guides,
        round(46 * dense),
        tones[:3],
        (10 * w, 26 * w),
        (0.35, 0.8),
        least=0.75,
        wave=4,
        share=(0.07, 0.95),
        start=0.5,
    )
    brush.locks(
        rng,
        guides,
        round(40 * dense),
        tones[:4],
        (8 * w, 22 * w),
        (0.6, 0.95),
        (0.5, 1.0),
        least=0.7,
        wave=4,
        share=(0.05, 0.97),
    )
    brush.locks(
        rng,
        guides,
        round(60 * dense),
        [tones[0]],
        (2 * w, 9 * w),
        (0.2, 0.6),
        least=0.4,
        wave=3,
        start=0.6,
    )
    brush.locks(
        rng,
        guides,
        round(50 * dense),
        tones[:4],
        (2 * w, 6 * w),
        (0.4, 0.8),
        (0, 0.3),
        least=0.5,
        start=0.6,
    )
    brush.locks(
        rng, guides, round(70 * dense), tones[2:4], (3 * w, 11 * w), (0.25, 0.65), least=0.4, wave=3
    )
    for band in bands:
        brush.locks(
            rng,
            guides,
            round(60 * dense * gleam),
            tones[3:5],
            (2.5 * w, 9 * w),
            (0.25, 0.7),
            band,
            least=0.35,
            wave=2,
        )
        middle = (band[0] * 0.7 + band[1] * 0.3, band[0] * 0.25 + band[1] * 0.75)
        brush.locks(
            rng,
            guides,
            round(34 * dense * gleam),
            tones[4:],
            (1.2 * w, 4.5 * w),
            (0.35, 0.85),
            middle,
            least=0.4,
            wave=1,
        )
    brush.locks(
        rng, guides, round(40 * dense), tones[3:5], (0.9, 2.0), (0.3, 0.7), least=0.4, wave=4
    )


def rim(
    brush: Brush,
    rng: np.random.Generator,
    guides: Sequence[Points],
    colour: Colour,
    reach: tuple[float, float] = (0, 1),
    count: int = 26,
    width: tuple[float, float] = (1.5, 5),
    share: tuple[float, float] = (0, 0.14),
) -> None:
    """Light from behind, along the first guide."""
    brush.locks(
        rng,
        guides,
        count,
        [colour],
        width,
        (0.35, 0.9),
        reach,
        least=0.25,
        wave=1.5,
        share=share,
        mode=skia.BlendMode.kScreen,
    )


def shadow(
    brush: Brush,
    guides: Sequence[Points],
    colour: Colour,
    drop: tuple[float, float] = (4, 14),
    blur: float = 9,
    alpha: float = 0.5,
) -> None:
    """What a mass throws on what is behind it."""
    shape = np.vstack([guides[0], guides[-1][::-1]]) + drop
    brush.fill(shape, colour, alpha, blur, skia.BlendMode.kMultiply)


def wisps(
    brush: Brush,
    rng: np.random.Generator,
    guides: Sequence[Points],
    colours: Tones,
    count: int = 14,
    far: float = 9,
) -> None:
    """Single hairs that left the others."""
    for guide in guides:
        for _ in range(count):
            begin = rng.uniform(0, 0.6)
            n = len(guide)
            piece = guide[int(begin * n) : int((begin + rng.uniform(0.25, 0.4)) * n)]
            t = np.linspace(0, 1, len(piece))[:, None] ** 1.5
            drift = np.array([rng.uniform(-far, far), rng.uniform(-far, far)])
            brush.stroke(
                piece + t * drift,
                colours[rng.integers(len(colours))],
                rng.uniform(0.9, 2.0),
                rng.uniform(0.4, 0.9),
            )
