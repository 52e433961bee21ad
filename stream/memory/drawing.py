"""A drawing as plain shapes, and two brushes for it: SVG for the page, Pillow for the PNG.

Pillow is there for portraits anyway and brings a font; a plotting library is twenty times its
size, and would not speak the page's colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]

SHARPER = 2  # the PNG is drawn so many times as large as its shapes say, for fine screens
SMOOTHER = 2  # and so many times again, since Pillow's lines have hard edges


@dataclass(frozen=True, slots=True)
class Line:
    points: tuple[Point, ...]
    colour: str  # a name of the palette
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Dot:
    at: Point
    radius: float
    colour: str


@dataclass(frozen=True, slots=True)
class Box:
    corner: Point  # the upper left one
    size: Point
    colour: str


@dataclass(frozen=True, slots=True)
class Text:
    at: Point  # of the baseline
    text: str
    colour: str
    size: float = 12.0
    anchor: str = "start"  # start, middle or end
    is_bold: bool = False


Shape = Line | Dot | Box | Text


@dataclass(slots=True)
class Drawing:
    """Shapes in the order in which they are painted, in pixels from the upper left corner."""

    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)

    def place(self, other: Drawing, x: float, y: float) -> None:
        """The other drawing with its corner at (x, y)."""
        self.shapes += [_moved(shape, x, y) for shape in other.shapes]


def _moved(shape: Shape, x: float, y: float) -> Shape:
    match shape:
        case Line(points):
            return replace(shape, points=tuple((px + x, py + y) for px, py in points))
        case Box((left, top)):
            return replace(shape, corner=(left + x, top + y))
        case Dot((across, down)) | Text((across, down)):
            return replace(shape, at=(across + x, down + y))


# ------------------------------------------------------------------------ SVG


def to_svg(drawing: Drawing, label: str) -> str:
    """An element for the page, whose custom properties (`--ink`…) are the palette."""
    inside = "".join(map(_element, drawing.shapes))
    return (
        f'<svg viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img" '
        f'aria-label="{escape(label)}">{inside}</svg>'
    )


def _element(shape: Shape) -> str:
    match shape:
        case Line(points, colour, width):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            return (
                f'<polyline points="{path}" fill="none" stroke="var(--{colour})" '
                f'stroke-width="{width:g}" stroke-linejoin="round"/>'
            )
        case Dot((x, y), radius, colour):
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="var(--{colour})"/>'
        case Box((x, y), (width, height), colour):
            return (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
                f'fill="var(--{colour})"/>'
            )
        case Text((x, y), text, colour, size, anchor, is_bold):
            weight = ' font-weight="600"' if is_bold else ""
            return (
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
                f'fill="var(--{colour})"{weight}>{escape(text)}</text>'
            )


# ------------------------------------------------------------------------ PNG


def write_png(drawing: Drawing, palette: Mapping[str, str], path: Path) -> None:
    """Raises OSError when the file cannot be written."""
    scale = SHARPER * SMOOTHER
    size = (round(drawing.width * scale), round(drawing.height * scale))
    image = Image.new("RGB", size, palette["paper"])
    brush = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        _paint(brush, shape, palette, scale)
    image.resize((size[0] // SMOOTHER, size[1] // SMOOTHER), Image.Resampling.LANCZOS).save(path)


def _paint(
    brush: ImageDraw.ImageDraw, shape: Shape, palette: Mapping[str, str], scale: int
) -> None:
    match shape:
        case Line(points, colour, width):
            path = [(x * scale, y * scale) for x, y in points]
            brush.line(path, palette[colour], max(1, round(width * scale)), joint="curve")
        case Dot((x, y), radius, colour):
            brush.circle((x * scale, y * scale), radius * scale, palette[colour])
        case Box((x, y), (width, height), colour):
            ends = (x * scale, y * scale, (x + width) * scale, (y + height) * scale)
            brush.rectangle(ends, palette[colour])
        case Text((x, y), text, colour, size, anchor, is_bold):
            where = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
            # The font has one weight: a hair's breadth of outline makes it bold.
            hair = round(0.018 * size * scale) if is_bold else 0
            brush.text(
                (x * scale, y * scale), text, palette[colour], _font(size * scale),
                anchor=where, stroke_width=hair, stroke_fill=palette[colour],
            )  # fmt: skip


def text_width(text: str, size: float) -> float:
    """In the PNG's font; a browser's own is about as wide."""
    return float(_font(size).getlength(text))


def wrapped(text: str, size: float, width: float) -> Sequence[str]:
    """Lines that are no wider."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def hairlines(ys: Iterable[float], left: float, right: float, colour: str) -> list[Shape]:
    return [Line(((left, y), (right, y)), colour) for y in ys]
