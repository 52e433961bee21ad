"""A QR code that a phone reads off a terminal."""

from __future__ import annotations

import segno

BORDER = 2  # modules; the standard asks for 4, readers for far less, and a terminal is small

# Fixed colours, not the terminal's own: on a dark theme it would come out inverted.
_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"
_RESET = "\x1b[0m"
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def qr_lines(text: str) -> list[str]:
    """Lines for a terminal, each two rows of modules high."""
    code = segno.make_qr(text, error="l")
    rows = [[bool(dark) for dark in row] for row in code.matrix_iter(border=BORDER)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    return [
        _BLACK_ON_WHITE + "".join(map(_half, upper, lower)) + _RESET
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]


def _half(upper: bool, lower: bool) -> str:
    return _HALVES[upper, lower]
