"""The picture: a row for each arm, its memory beside its time, all rows on the same scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from stream.memory.drawing import Box, Dot, Drawing, Line, Shape, Text, hairlines, wrapped
from stream.memory.findings import NOTEWORTHY_BYTES, Arm, Experiment, growth, milliseconds
from workers.experiment_messages import Phase, Start, Stretch

PALETTE = {  # the page's, in daylight
    "paper": "#f7f5f1", "raised": "#ffffff", "grid": "#e6e1d8", "ink": "#1f1c1a",
    "faint": "#6a645c", "accent": "#c9401f", "memory": "#2f6690", "time": "#4d7c4f",
    "first": "#fbe9e2", "last": "#ece9f6", "before": "#f1eee8",
}  # fmt: skip
WIDTH, ROW_HEIGHT = 640.0, 176.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 10.0, 22.0, 46.0
LOG_FROM = 12.0  # largest time over least, from where a linear scale would flatten the rest
READABLE = 38.0  # pixels of a column that has a number below it


class What(Enum):
    MEMORY = "memory"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels from the plot's top, by a straight or a logarithmic way."""

    low: float
    high: float
    height: float
    is_log: bool = False

    def y(self, value: float) -> float:
        low, high, here = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return TOP + self.height * (1 - (here - low) / (high - low))

    @property
    def ticks(self) -> Sequence[float]:
        if self.is_log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            decades = [10.0**power for power in range(first, last + 1)]
            return [tick for tick in decades if self.low <= tick <= self.high]
        step = _round_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        return [step * number for number in range(first, int(self.high / step + 1e-9) + 1)]


def panel(it: Experiment, arm: Arm, what: What) -> Drawing:
    """One arm's memory, in MB, or the time of its batches, in ms."""
    drawing = Drawing(WIDTH, ROW_HEIGHT)
    columns = _Columns(it)
    scale = scale_of(it, what)
    drawing.shapes += _ground(columns, scale)
    drawing.shapes += hairlines(map(scale.y, scale.ticks), LEFT, WIDTH - RIGHT, "grid")
    drawing.shapes += _marks(it, arm, columns, scale)
    drawing.shapes += [
        Text((LEFT - 8, scale.y(tick) + 4), _number(tick), "faint", 11, "end")
        for tick in scale.ticks
    ]
    paint = _memory if what is What.MEMORY else _time
    drawing.shapes += paint(it, arm, columns, scale)
    drawing.shapes += _names(columns)
    return drawing


def picture(it: Experiment, title: str, headline: str) -> Drawing:
    """All of it, for the PNG."""
    side, gap = 190.0, 26.0
    width = side + 2 * WIDTH + 3 * gap
    lines = wrapped(headline, 21, width - 2 * gap)
    head = 66 + 28 * len(lines)
    row = ROW_HEIGHT + 14
    drawing = Drawing(width, head + 34 + row * len(it.arms) + 40)
    drawing.shapes.append(Text((gap, 40), title, "faint", 14))
    for number, line in enumerate(lines):
        drawing.shapes.append(Text((gap, 76 + 28 * number), line, "ink", 21, is_bold=True))
    left = (side + gap, side + 2 * gap + WIDTH)
    for x, what in zip(left, What, strict=True):
        drawing.shapes.append(Text((x, head + 20), heading(it, what), "ink", 14, is_bold=True))
    for number, arm in enumerate(it.arms):
        y = head + 34 + row * number
        for x, what in zip(left, What, strict=True):
            drawing.shapes.append(Box((x, y), (WIDTH, ROW_HEIGHT), "raised"))
            drawing.place(panel(it, arm, what), x, y)
        drawing.shapes += _arm_name(it, arm, gap, y + 44, side - 20)
    drawing.shapes.append(Text((gap, drawing.height - 18), legend(it), "faint", 12))
    return drawing


def heading(it: Experiment, what: What) -> str:
    if what is What.MEMORY:
        return f"{it.memory_name.capitalize()}, MB".replace("(rss)", "(RSS)")
    log = ", on a logarithmic scale" if scale_of(it, what).is_log else ""
    return f"Time of each batch, ms{log}"


def arm_words(it: Experiment, arm: Arm) -> str:
    """What was done in this arm, below its name."""
    start = (
        "The first batch meets a model that never ran."
        if arm.start is Start.COLD
        else f"{sum(s.phase == Phase.WARM_UP.value for s in arm.warm_up)} runs at the shape of a "
        f"whole batch{', then the capture of a CUDA graph,' if arm.captures else ''} before the "
        "first batch."
    )
    last = (
        f"The last one runs with {it.short} rows."
        if arm.last.value == "ragged"
        else f"The last one's {it.short} frames are filled up to {it.batch} rows."
    )
    return f"{start} {last}"


def legend(it: Experiment) -> str:
    allocations = "device allocations" if it.on_cuda else "page faults"
    return (
        f"Shaded: the first batch, and the last one with {it.short} of {it.batch} frames. Below "
        f"each batch: how much the memory grew in it, in MB, and its {allocations}; its time in ms"
        + (", and the graphs that torch.compile made." if it.is_compiled else ".")
    )


def scale_of(it: Experiment, what: What) -> Scale:
    height = ROW_HEIGHT - TOP - BOTTOM
    stretches = [stretch for arm in it.arms for stretch in arm.stretches]
    if what is What.TIME:
        times = [s.took_ms for s in stretches if s.phase != Phase.CAPTURE.value]
        low, high = min(times), max(times)
        if high > LOG_FROM * low:
            return Scale(low / 1.3, high * 1.6, height, is_log=True)
        return Scale(0.0, high * 1.15, height)
    held = [value / 1e6 for s in stretches for value in (s.before_bytes, s.after_bytes)]
    low, high = min(held), max(held)
    # A scale that fits a heap's breath alone would make mountains of it.
    span = max(high - low, 0.08 * high, 8.0)
    return Scale(max(low - 0.15 * span, 0.0), low + 1.3 * span, height)


# --------------------------------------------------------------------- inside


class _Columns:
    """Where a batch's column lies: before all of them that of the warm-up."""

    def __init__(self, it: Experiment) -> None:
        self.count = it.columns
        self.width = (WIDTH - LEFT - RIGHT) / (it.columns + 1)

    def left(self, column: int) -> float:
        """column: 0 for the warm-up, else a batch's number."""
        return LEFT + self.width * column

    def middle(self, column: int) -> float:
        return self.left(column) + self.width / 2

    def has_number(self, column: int) -> bool:
        return self.width >= READABLE or column in (0, 1, self.count)


def _ground(columns: _Columns, scale: Scale) -> list[Shape]:
    size = (columns.width, scale.height)
    shades = {0: "before", 1: "first", columns.count: "last"}
    return [Box((columns.left(column), TOP), size, colour) for column, colour in shades.items()]


def _marks(it: Experiment, arm: Arm, columns: _Columns, scale: Scale) -> list[Shape]:
    """What the shaded columns are, and what is not in them."""
    y, middle_y, right = TOP - 7, TOP + scale.height / 2, WIDTH - RIGHT
    shapes: list[Shape] = [
        Text((columns.left(1), y), "first", "faint", 11),
        Text((right, y), f"last: {it.short} of {it.batch}", "faint", 11, "end"),
    ]
    if not arm.warm_up:
        shapes.append(Box((columns.middle(0) - 16, middle_y - 12), (32, 16), "before"))
        shapes.append(Text((columns.middle(0), middle_y), "none", "faint", 11, "middle"))
    if arm.failure:
        where = (columns.middle(columns.count), middle_y)
        shapes.append(Text(where, "fails", "accent", 12, "middle", is_bold=True))
    return shapes


def _names(columns: _Columns) -> list[Shape]:
    y = ROW_HEIGHT - BOTTOM + 14
    shapes: list[Shape] = [Text((columns.middle(0), y), "warm-up", "faint", 11, "middle")]
    shapes += [
        Text((columns.middle(column), y), str(column), "faint", 11, "middle")
        for column in range(1, columns.count + 1)
        if columns.has_number(column)
    ]
    return shapes


def _memory(it: Experiment, arm: Arm, columns: _Columns, scale: Scale) -> list[Shape]:
    parts = _by_column(arm)
    points, dots = [], []
    for column, stretches in sorted(parts.items()):
        x, step = columns.left(column), columns.width
        for share, value in (
            (0.25, stretches[0].before_bytes),
            (0.75, stretches[-1].after_bytes),
        ):
            points.append((x + share * step, scale.y(value / 1e6)))
            dots.append(Dot(points[-1], 2.6, "memory"))
    shapes: list[Shape] = [Line(tuple(points), "memory", 2.0), *dots]
    return shapes + _numbers(
        columns, parts, (_Below("growth", _growth_below), _allocated_below(it))
    )


def _time(it: Experiment, arm: Arm, columns: _Columns, scale: Scale) -> list[Shape]:
    parts = _by_column(arm)
    shapes: list[Shape] = []
    if arm.usual:
        y = scale.y(arm.usual_ms)
        shapes += _dashes(columns.left(1), WIDTH - RIGHT, y)
        label = f"usual: {milliseconds(arm.usual_ms)}"
        shapes.append(Text((columns.left(2), TOP - 7), label, "faint", 11))
    points = [
        (columns.middle(column), scale.y(max(s.took_ms for s in stretches)))
        for column, stretches in sorted(parts.items())
    ]
    shapes.append(Line(tuple(points), "time", 2.0))
    shapes += [Dot(point, 3.2, "time") for point in points]
    below = [_Below("ms", _took_below)]
    if it.is_compiled:
        below.append(_Below("graphs", _graphs_below))
    return shapes + _numbers(columns, parts, below)


@dataclass(frozen=True, slots=True)
class _Below:
    """A line of numbers below the columns; `say`: what stands there, and whether it is news."""

    name: str
    say: Callable[[Sequence[Stretch]], tuple[str, bool]]


def _numbers(
    columns: _Columns, parts: dict[int, list[Stretch]], below: Sequence[_Below]
) -> list[Shape]:
    """One or two lines of them below the names of the columns."""
    shapes: list[Shape] = []
    for number, line in enumerate(below):
        y = ROW_HEIGHT - BOTTOM + 28 + 13 * number
        shapes.append(Text((LEFT - 8, y), line.name, "faint", 10.5, "end"))
        for column, stretches in parts.items():
            if columns.has_number(column):
                text, is_news = line.say(stretches)
                colour = "accent" if is_news else "faint"
                where = (columns.middle(column), y)
                shapes.append(Text(where, text, colour, 10.5, "middle", is_bold=is_news))
    return shapes


def _growth_below(stretches: Sequence[Stretch]) -> tuple[str, bool]:
    grown = stretches[-1].after_bytes - stretches[0].before_bytes
    return growth(grown), grown >= NOTEWORTHY_BYTES


def _allocated_below(it: Experiment) -> _Below:
    def allocations(stretches: Sequence[Stretch]) -> tuple[str, bool]:
        count = sum(stretch.device_allocations or 0 for stretch in stretches)
        return f"{count}", count > 0

    def faults(stretches: Sequence[Stretch]) -> tuple[str, bool]:
        count = sum(stretch.minor_faults + stretch.major_faults for stretch in stretches)
        return (f"{count / 1e3:.1f}k" if count >= 1000 else f"{count}"), False

    return _Below("allocs", allocations) if it.on_cuda else _Below("faults", faults)


def _took_below(stretches: Sequence[Stretch]) -> tuple[str, bool]:
    return milliseconds(max(stretch.took_ms for stretch in stretches)).removesuffix(" ms"), False


def _graphs_below(stretches: Sequence[Stretch]) -> tuple[str, bool]:
    count = sum(stretch.compiled_graphs for stretch in stretches)
    return f"{count}", count > 0


def _by_column(arm: Arm) -> dict[int, list[Stretch]]:
    parts: dict[int, list[Stretch]] = {}
    for stretch in arm.stretches:
        column = stretch.number if stretch.phase == Phase.BATCH.value else 0
        parts.setdefault(column, []).append(stretch)
    return parts


def _arm_name(it: Experiment, arm: Arm, x: float, y: float, width: float) -> list[Shape]:
    start, last = arm.name.split(", ")
    shapes: list[Shape] = [
        Text((x, y), f"{start.capitalize()},", "ink", 15, is_bold=True),
        Text((x, y + 19), last, "ink", 15, is_bold=True),
    ]
    for number, line in enumerate(wrapped(arm_words(it, arm), 11.5, width)):
        shapes.append(Text((x, y + 40 + 15 * number), line, "faint", 11.5))
    return shapes


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least)


def _dashes(left: float, right: float, y: float) -> list[Shape]:
    starts = range(int(left), int(right) - 4, 9)
    return [Line(((x, y), (x + 4, y)), "faint", 1.0) for x in starts]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:g}"
