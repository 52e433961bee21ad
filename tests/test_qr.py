"""The QR code: what a terminal shows is what a phone reads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stream.qr import qr_lines

LINK = "https://192.168.178.123:8080/#token=cw8KNg6_Hn3GRTuXDaHZMw"
HALVES = {" ": (255, 255), "▀": (0, 255), "▄": (255, 0), "█": (0, 0)}
SCALE = 8


def modules(lines: list[str]) -> list[list[int]]:
    """The grey values that a terminal shows, a row of modules each."""
    rows: list[list[int]] = []
    for line in lines:
        shown = re.sub(r"\x1b\[[0-9;]*m", "", line)
        rows += [[HALVES[half][at] for half in shown] for at in (0, 1)]
    return rows


def has_reader() -> bool:
    tools = [shutil.which("gst-launch-1.0"), shutil.which("gst-inspect-1.0")]
    if not all(tools):
        return False
    return subprocess.run([str(tools[1]), "zbar"], capture_output=True).returncode == 0


def test_it_fits_a_small_terminal_and_is_dark_on_light_in_any_theme() -> None:
    lines = qr_lines(LINK)
    assert len(lines) <= 19
    for line in lines:
        assert line.startswith("\x1b[38;5;16;48;5;231m") and line.endswith("\x1b[0m")
    rows = modules(lines)
    assert len({len(row) for row in rows}) == 1 and len(rows[0]) <= 38
    edge = [*rows[0], *rows[1], *rows[-1], *(row[0] for row in rows), *(row[-1] for row in rows)]
    assert set(edge) == {255}  # its quiet zone


@pytest.mark.skipif(
    not os.environ.get("CI") and not has_reader(),
    reason="GStreamer's zbar element is not installed",
)
@pytest.mark.parametrize("text", [LINK, "https://box.example/#token=abcdefgh", LINK + "x" * 200])
def test_a_reader_of_such_codes_reads_the_link(tmp_path: Path, text: str) -> None:
    rows = modules(qr_lines(text))
    wide = [bytes(grey for grey in row for _ in range(SCALE)) for row in rows for _ in range(SCALE)]
    picture = tmp_path / "code.pgm"
    picture.write_bytes(b"P5 %d %d 255\n" % (len(wide[0]), len(wide)) + b"".join(wide))
    launch = ["gst-launch-1.0", "-m", "filesrc", f"location={picture}", "!", "pnmdec", "!"]
    tail = ["videoconvert", "!", "zbar", "cache=false", "!", "fakesink"]
    done = subprocess.run([*launch, *tail], capture_output=True, text=True, timeout=20)
    read = re.search(r'symbol=\(string\)"(.*?)", ', done.stdout)
    assert read and re.sub(r"\\(.)", r"\1", read[1]) == text
