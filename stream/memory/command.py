"""The command `omokage memory`."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import click

from stream import values
from stream.options import device_option, geometry_option, read_option, threads_option
from workers.errors import SettingsError
from workers.experiment_messages import Terms
from workers.geometry import Geometry

PNG, PAGE = "memory.png", "memory.html"
MOST_FRAMES = 100_000
EPILOG = """\b
The four runs are a cold and a warm start, each with a last batch that is short
and one that is filled. Nothing is overwritten: a folder that has such files
already is refused.

\b
Examples:
  omokage memory
  omokage memory --model my_package.my_module:make_avatar --batch 8 --frames 60
  omokage memory --model avatar.pt2 --device cuda --out measured
  omokage memory --compile        (and what a ragged batch costs then)
"""


@click.command(
    "memory",
    short_help="Measure the first and the last batch.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--model",
    default="puppet",
    metavar="MODEL",
    show_default=True,
    help="puppet, toon, mirror, package.module:factory, or a torch.export file (.pt2).",
)
@device_option
@geometry_option
@click.option(
    "--frames",
    default="120",
    metavar="N",
    show_default=True,
    help="So many frames; the last batch has what is left of them.",
)
@click.option("--batch", default="16", metavar="N", show_default=True, help="Frames in a batch.")
@threads_option
@click.option(
    "--compile",
    is_flag=True,
    help="Run the model through torch.compile (dynamic=False): a ragged batch is then "
    "compiled once more, on any device.",
)
@click.option("--out", metavar="FOLDER", help=f"Write {PNG} and {PAGE} here.  "
              "[default: a new folder omokage-memory-MODEL-TIME]")  # fmt: skip
def memory(
    model: str,
    device: str,
    geometry: str | None,
    frames: str,
    batch: str,
    threads: str | None,
    compile: bool,
    out: str | None,
) -> None:
    """Shows what the first and the last batch do to memory and time, for one model.

    Runs the model four times, each in a fresh process: with a cold start and after a warm-up at
    exactly the shape that runs, with a last batch that is short and one that is filled. Memory is
    read before and after every batch. Prints a table, draws a picture and writes a page, which
    say what that means for this very model.
    """
    terms = Terms(
        model=read_option("--model", model, values.model),
        device=read_option("--device", device, values.device),
        geometry=None if geometry is None else str(Geometry.parse(geometry)),
        frames=read_option("--frames", frames, values.whole(4, MOST_FRAMES)),
        batch=read_option("--batch", batch, values.whole(2, 1024)),
        threads=None
        if threads is None
        else read_option("--threads", threads, values.whole(1, 1024)),
        compile=compile,
        start="",
        last="",
    )
    _check(terms)
    folder, is_new = _folder(out, terms)
    try:
        # Here, for the same reason as with `serve`: --help need not wait for imports.
        from stream.memory.show import show

        show(terms, folder / PNG, folder / PAGE)
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _check(terms: Terms) -> None:
    if terms.frames % terms.batch == 0:
        raise SettingsError(
            f"--frames {terms.frames} is a whole number of batches of {terms.batch}, so none would "
            f"be short: pass another number, as in {terms.frames - (terms.batch + 1) // 2}"
        )
    if terms.frames < 3 * terms.batch:
        raise SettingsError(
            f"--frames {terms.frames} makes fewer than three whole batches of {terms.batch}, so "
            f"none would be a usual one: pass at least {3 * terms.batch + 1}"
        )


def _folder(out: str | None, terms: Terms) -> tuple[Path, bool]:
    """And whether it was made here, so that nobody waits for figures that cannot be written."""
    if out is None:
        name = re.sub(r"\W+", "-", Path(terms.model).stem).strip("-")
        out = f"omokage-memory-{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = read_option("--out", out, values.file)
    try:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        taken = next((name for name in (PNG, PAGE) if (folder / name).exists()), None)
    except OSError as error:
        reason = (error.strerror or "not to be had").lower()
        raise SettingsError(f"--out {out} cannot be written to ({reason}): pass another") from None
    if taken is not None:
        raise SettingsError(f"--out {out} has a {taken} already: remove it, or pass another")
    return folder, is_new
