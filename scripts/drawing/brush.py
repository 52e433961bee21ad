"""Paths, washes and strands on one picture, in units of its side / 1024."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import skia

SIDE = 1024
FINER = 2  # drawn so many times larger, then averaged

Points = np.ndarray  # (N, 2)
Colour = tuple[float, float, float]


def rgb(text: str) -> Colour:
    """#rrggbb → 0 to 1 each."""
    return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]  # three of them


def mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(x + (y - x) * share for x, y in zip(a, b, strict=True))  # type: ignore[return-value]  # three of them


def dots(text: str) -> Points:
    """Points, as "x,y x,y …"."""
    return np.array([[float(value) for value in pair.split(",")] for pair in text.split()])


def smooth(
    points: Sequence[Sequence[float]] | Points, closed: bool = False, each: int = 16
) -> Points:
    """The Catmull-Rom curve through the points, `each` steps between two of them."""
    p = np.asarray(points, float)[:, :2]
    p = (
        np.vstack([p[-1], p, p[:2]])
        if closed
        else np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    )
    t = (np.arange(each) / each)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3
    )
    curve = curve.reshape(-1, 2)
    return curve if closed else np.vstack([curve, p[-2]])


def even(points: Points, count: int) -> Points:
    """The same line by `count` points, equally far apart."""
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    at = np.linspace(0, steps[-1], count)
    return np.stack([np.interp(at, steps, points[:, k]) for k in (0, 1)], 1)


def ribbon(line: Points, widths: Points | Sequence[float]) -> Points:
    """The outline of a line as wide as told at each of its points."""
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    half = np.asarray(widths)[:, None] / 2
    return np.vstack([line + across * half, (line - across * half)[::-1]])


def taper(count: int, start: float = 0.0, end: float = 0.0, power: float = 0.7) -> np.ndarray:
    """A brush stroke's width along it: 1 in the middle."""
    t = np.linspace(0, 1, count)
    return np.maximum(np.sin(np.pi * t) ** power, np.where(t < 0.5, start, end))


def path_of(points: Points, closed: bool = True) -> skia.Path:
    path = skia.Path()
    path.addPoly([skia.Point(float(x), float(y)) for x, y in points[:, :2]], closed)
    return path


class Brush:
    """A transparent picture to draw on."""

    def __init__(self) -> None:
        self.surface = skia.Surface(SIDE * FINER, SIDE * FINER)
        self.canvas = self.surface.getCanvas()
        self.canvas.scale(FINER, FINER)

    # ---------------------------------------------------------------- washes

    def fill(
        self,
        points: Points,
        paint: Colour | skia.Shader,
        alpha: float = 1.0,
        blur: float = 0.0,
        mode: skia.BlendMode = skia.BlendMode.kSrcOver,
    ) -> None:
        self.canvas.drawPath(path_of(points), _paint(paint, alpha, blur, mode))

    def ellipse(
        self,
        centre: Sequence[float],
        rx: float,
        ry: float,
        paint: Colour | skia.Shader,
        alpha: float = 1.0,
        blur: float = 0.0,
        mode: skia.BlendMode = skia.BlendMode.kSrcOver,
        turn: float = 0.0,
    ) -> None:
        self.canvas.save()
        self.canvas.rotate(turn, *map(float, centre[:2]))
        x, y = map(float, centre[:2])
        self.canvas.drawOval(
            skia.Rect(x - rx, y - ry, x + rx, y + ry), _paint(paint, alpha, blur, mode)
        )
        self.canvas.restore()

    def line(
        self,
        points: Points,
        paint: Colour,
        width: float,
        alpha: float = 1.0,
        blur: float = 0.0,
        mode: skia.BlendMode = skia.BlendMode.kSrcOver,
        closed: bool = False,
    ) -> None:
        pen = _paint(paint, alpha, blur, mode)
        pen.setStyle(skia.Paint.kStroke_Style)
        pen.setStrokeWidth(width)
        pen.setStrokeCap(skia.Paint.kRound_Cap)
        pen.setStrokeJoin(skia.Paint.kRound_Join)
        self.canvas.drawPath(path_of(points, closed), pen)

    def stroke(
        self,
        points: Points,
        paint: Colour | skia.Shader,
        width: float,
        alpha: float = 1.0,
        blur: float = 0.0,
        start: float = 0.0,
        end: float = 0.0,
        power: float = 0.7,
        mode: skia.BlendMode = skia.BlendMode.kSrcOver,
    ) -> None:
        """Thin where it begins and ends, unless told otherwise."""
        line = even(points, max(8, len(points)))
        self.fill(
            ribbon(line, width * taper(len(line), start, end, power)), paint, alpha, blur, mode
        )

    def wash(
        self,
        paint: Colour | skia.Shader,
        alpha: float = 1.0,
        mode: skia.BlendMode = skia.BlendMode.kSrcOver,
    ) -> None:
        """All of it, or all of the clip."""
        self.canvas.drawPaint(_paint(paint, alpha, 0, mode))

    def image(self, pixels: np.ndarray, mode: skia.BlendMode = skia.BlendMode.kSrcOver) -> None:
        """(SIDE, SIDE, 4) in 0 to 1, not premultiplied."""
        data = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
        image = skia.Image.fromarray(
            np.ascontiguousarray(data), skia.ColorType.kRGBA_8888_ColorType
        )
        pen = skia.Paint(BlendMode=mode)
        self.canvas.drawImageRect(
            image,
            skia.Rect(0, 0, SIDE, SIDE),
            skia.SamplingOptions(skia.CubicResampler.Mitchell()),
            pen,
        )

    # ----------------------------------------------------------------- scopes

    @contextmanager
    def inside(self, points: Points) -> Iterator[None]:
        self.canvas.save()
        self.canvas.clipPath(path_of(points), doAntiAlias=True)
        yield
        self.canvas.restore()

    @contextmanager
    def layer(
        self, alpha: float = 1.0, mode: skia.BlendMode = skia.BlendMode.kSrcOver
    ) -> Iterator[None]:
        """What is drawn within comes down as one."""
        self.canvas.saveLayer(None, skia.Paint(Alphaf=alpha, BlendMode=mode))
        yield
        self.canvas.restore()

    # ----------------------------------------------------------------- locks

    def locks(
        self,
        rng: np.random.Generator,
        guides: Sequence[Points],
        count: int,
        colours: Sequence[Colour],
        width: tuple[float, float] = (3, 9),
        alpha: tuple[float, float] = (0.25, 0.7),
        reach: tuple[float, float] = (0.0, 1.0),
        least: float = 0.35,
        wave: float = 2.0,
        blur: float = 0.0,
        share: tuple[float, float] = (0.0, 1.0),
        start: float = 0.0,
        mode: skia.BlendMode = skia.BlendMode.kSrcOver,
    ) -> None:
        """Strands that flow between guides, from `reach` of their length, `share` across."""
        lines = np.stack([even(guide, 80) for guide in guides])
        t = np.linspace(0, 1, 80)
        for _ in range(count):
            across = rng.uniform(*share) * (len(lines) - 1)
            at = int(np.clip(np.floor(across), 0, len(lines) - 2))
            line = lines[at] + (lines[at + 1] - lines[at]) * (across - at)
            shift = np.sin(t * rng.uniform(3, 8) + rng.uniform(0, 6)) * rng.uniform(-wave, wave)
            line = line + shift[:, None]
            length = rng.uniform(least, 1) * (reach[1] - reach[0])
            begin = rng.uniform(reach[0], reach[1] - length)
            piece = line[int(begin * 79) : int((begin + length) * 79) + 1]
            if len(piece) >= 5:
                root = start if begin < 0.05 else 0.0
                self.stroke(
                    even(piece, 40),
                    colours[rng.integers(len(colours))],
                    rng.uniform(*width),
                    rng.uniform(*alpha),
                    blur,
                    start=root,
                    mode=mode,
                )

    def pixels(self) -> np.ndarray:
        """(SIDE × FINER, same, 4) float in 0 to 1, premultiplied."""
        found = self.surface.makeImageSnapshot().toarray(
            colorType=skia.ColorType.kRGBA_8888_ColorType,
            alphaType=skia.AlphaType.kPremul_AlphaType,
        )
        return found.astype(np.float32) / 255


def linear(
    start: Sequence[float],
    end: Sequence[float],
    *stops: tuple[float, Colour] | tuple[float, Colour, float],
) -> skia.Shader:
    """A gradient; a stop is its place, its colour and, if it is not 1, its alpha."""
    return skia.GradientShader.MakeLinear(
        [skia.Point(*map(float, start)), skia.Point(*map(float, end))], *_stops(stops)
    )


def radial(
    centre: Sequence[float],
    radius: float,
    *stops: tuple[float, Colour] | tuple[float, Colour, float],
) -> skia.Shader:
    return skia.GradientShader.MakeRadial(
        skia.Point(*map(float, centre[:2])), float(radius), *_stops(stops)
    )


def _stops(stops: Sequence[tuple]) -> tuple[list[int], list[float]]:
    colours = [_colour(stop[1], stop[2] if len(stop) > 2 else 1.0) for stop in stops]
    return colours, [float(stop[0]) for stop in stops]


def _colour(colour: Colour, alpha: float) -> int:
    return skia.Color4f(*colour, alpha).toColor()


def _paint(
    paint: Colour | skia.Shader, alpha: float, blur: float, mode: skia.BlendMode
) -> skia.Paint:
    pen = skia.Paint(AntiAlias=True, BlendMode=mode, Dither=True)
    if isinstance(paint, skia.Shader):
        pen.setShader(paint)
        pen.setAlphaf(alpha)
    else:
        pen.setColor4f(skia.Color4f(*paint, alpha))
    if blur:
        pen.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
    return pen
