"""Four processes one after another, then a table, a picture and a page."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import assert_never

import click

from stream.memory.chart import PALETTE, picture
from stream.memory.drawing import write_png
from stream.memory.findings import Arm, Experiment, growth, milliseconds
from stream.memory.page import page
from stream.memory.story import tell
from stream.progress import Progress
from stream.supervisor import environment_for
from stream.telling import tellings
from workers.errors import ModelError
from workers.experiment_messages import (
    TELLINGS,
    Facts,
    Impossible,
    Last,
    Phase,
    Shapes,
    Start,
    Stretch,
    Terms,
    Uncaptured,
)
from workers.messages import Fill, WorkerSpec


def show(terms: Terms, png: Path, html: Path) -> None:
    """Runs the experiment, writes both files, and prints what they say.

    Raises OmokageError, before anything is written.
    """
    began_s = time.monotonic()
    with Progress() as progress:
        experiment = measure(terms, _environment(terms), progress)
    title = _title(experiment)
    story = tell(experiment)
    write_png(picture(experiment, title, story.headline), PALETTE, png)
    html.write_text(page(experiment, title, story, _command(terms)), encoding="utf-8")
    click.echo(f"{title}\n\n{table(experiment)}\n")
    for paragraph in (story.headline, *story.paragraphs):
        click.echo(click.formatting.wrap_text(paragraph, 96) + "\n")
    click.echo(f"written: {html} and {png.name} beside it, in {time.monotonic() - began_s:.0f} s")


def measure(
    terms: Terms, environment: Mapping[str, str], progress: Callable[[str], None]
) -> Experiment:
    """All four arms. Raises ModelError for a model that fails where a whole batch should run."""
    facts: Facts | None = None
    arms = []
    for start in Start:
        for last in Last:
            its = replace(terms, start=start.value, last=last.value)
            known, arm = _arm(its, start, last, environment, progress)
            facts = facts or known
            if len(arm.batches) < terms.frames // terms.batch:
                raise ModelError(f"the model fails: {arm.failure}")
            arms.append(arm)
    assert facts is not None
    return Experiment(terms.model, terms.frames, terms.batch, terms.compile, facts, tuple(arms))


def _arm(
    terms: Terms,
    start: Start,
    last: Last,
    environment: Mapping[str, str],
    progress: Callable[[str], None],
) -> tuple[Facts, Arm]:
    facts: Facts | None = None
    arm = Arm(start, last, (), ())
    progress(f"{arm.name}: starting")
    columns = terms.frames // terms.batch + 1
    words = [json.dumps(asdict(terms))]
    for telling in tellings("workers.experiment", words, TELLINGS, environment):
        match telling:
            case Facts():
                facts = telling
            case Stretch(error=str(error)):
                arm = replace(arm, failure=error)
            case Stretch():
                many = f" of {columns}" if telling.phase == Phase.BATCH.value else ""
                progress(
                    f"{arm.name}: {telling.phase} {telling.number}{many}, "
                    f"{milliseconds(telling.took_ms)}"
                )
                if telling.phase == Phase.BATCH.value:
                    arm = replace(arm, batches=(*arm.batches, telling))
                else:
                    arm = replace(arm, warm_up=(*arm.warm_up, telling))
            case Shapes():
                arm = replace(arm, shapes=telling)
            case Uncaptured(why):
                arm = replace(arm, uncaptured=why)
            case Impossible(why):
                raise ModelError(why)
            case never:
                assert_never(never)
    assert facts is not None, "the arm's first word"
    return facts, arm


def table(it: Experiment) -> str:
    """A line for each arm: what its first, its usual and its last batch took."""
    allocated = "device allocations" if it.on_cuda else "page faults"
    head = ["start, last", "warm-up", "first batch", "usual", "last batch"]
    head.append(f"{allocated} (first, last)")
    if it.is_compiled:
        head.append("graphs made (first, last)")
    return "\n".join(_aligned([head, *(_figures(it, arm) for arm in it.arms)]))


def _figures(it: Experiment, arm: Arm) -> list[str]:
    """Allocations and graphs: of the first batch, and of the last."""
    assert arm.first is not None
    closing = arm.closing
    warm_up = f"{milliseconds(arm.warm_up_ms)} {growth(arm.warm_up_bytes)} MB"
    cells = [
        f"{arm.start.value}, {arm.last.value}",
        warm_up if arm.warm_up else "none",
        _pair(arm.first),
        milliseconds(arm.usual_ms),
        _pair(closing) if closing else "fails",
        f"{_allocated(it, arm.first)}, {_allocated(it, closing) if closing else '-'}",
    ]
    if it.is_compiled:
        last_graphs = closing.compiled_graphs if closing else "-"
        cells.append(f"{arm.first.compiled_graphs}, {last_graphs}")
    return cells


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        row[0].ljust(widths[0])
        + "".join(cell.rjust(width + 3) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def _pair(stretch: Stretch) -> str:
    return f"{milliseconds(stretch.took_ms)} {growth(stretch.grown_bytes):>6} MB"


def _allocated(it: Experiment, stretch: Stretch) -> str:
    if it.on_cuda:
        return f"{stretch.device_allocations}"
    return f"{stretch.minor_faults + stretch.major_faults:,}"


def _title(it: Experiment) -> str:
    through = " through torch.compile" if it.is_compiled else ""
    return (
        f"{it.model}{through}: {it.frames} frames of {it.facts.geometry} in batches of "
        f"{it.batch}, on {it.device_words}, torch {it.facts.torch}"
    )


def _environment(terms: Terms) -> dict[str, str]:
    """As a worker's: what is measured here is what a worker would see."""
    spec = WorkerSpec(
        index=0,
        model=terms.model,
        device=terms.device,
        geometry=None,
        batch_sizes=None,
        max_wait_s=0.0,
        fill=Fill.LAST,
        max_sessions=1,
        threads=terms.threads,
        compile=terms.compile,
    )
    # A kernel that an earlier arm has left in a cache would make the later one's start warm.
    return environment_for(spec) | {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}


def _command(terms: Terms) -> str:
    words = ["omokage", "memory", "--model", terms.model, "--device", terms.device]
    words += ["--frames", str(terms.frames), "--batch", str(terms.batch)]
    words += ["--geometry", terms.geometry] if terms.geometry else []
    words += ["--threads", str(terms.threads)] if terms.threads else []
    return shlex.join([*words, "--compile"] if terms.compile else words)
