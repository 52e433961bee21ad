"""`omokage memory`: what its child measures, what its sentences say, what it writes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image
from processes import marked
from server import TESTS

from stream.cli import main
from stream.memory.findings import Arm, Experiment
from stream.memory.show import table
from stream.memory.story import tell
from stream.telling import tellings
from workers.experiment_messages import (
    TELLINGS,
    Facts,
    Last,
    Phase,
    Start,
    Stretch,
    Terms,
)

MB = 1_000_000
TERMS = Terms("avatars:Hoarding", "cpu", "16x16", 14, 4, 1, False, "cold", "ragged")


@pytest.fixture(autouse=True)
def tests_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{TESTS.parent}:{TESTS}")


def batches(terms: Terms) -> list[Stretch]:
    """What one arm's child tells of its batches."""
    told = tellings("workers.experiment", [json.dumps(asdict(terms))], TELLINGS, {})
    return [it for it in told if isinstance(it, Stretch) and it.phase == Phase.BATCH.value]


# ------------------------------------------------------------------ the child


def test_the_last_batch_runs_as_short_as_it_is_or_filled_and_its_fill_is_no_frame() -> None:
    ragged = batches(TERMS)
    assert [(it.number, it.real, it.rows) for it in ragged] == [
        (1, 4, 4), (2, 4, 4), (3, 4, 4), (4, 2, 2),
    ]  # fmt: skip
    assert [it.grown_bytes > 15 * MB for it in ragged] == [True, False, False, True]
    filled = batches(replace(TERMS, start="warm", last="filled"))
    assert (filled[-1].real, filled[-1].rows) == (2, 4)
    assert not any(it.grown_bytes > 15 * MB for it in filled)


def test_torch_compile_makes_a_graph_for_the_first_batch_and_one_for_a_ragged_last() -> None:
    terms = replace(TERMS, model="avatars:Invert", compile=True)
    assert [it.compiled_graphs for it in batches(terms)] == [1, 0, 0, 1]


def test_a_model_of_whole_batches_alone_fails_on_the_ragged_one_and_says_so() -> None:
    *whole, short = batches(replace(TERMS, model="avatars:WholeBatches"))
    assert [it.error for it in whole] == [None] * 3
    assert short.error is not None and "avatars.py:" in short.error


# ---------------------------------------------------------------- the command


def test_a_picture_a_page_and_a_table_say_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    words = "memory --model avatars:Hoarding --device cpu --geometry 16x16 --frames 14 --batch 4"
    assert main([*words.split(), "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Warm up: cold, the first batch takes" in said and "of memory" in said
    assert re.search(r"short, it took [\d.]+ times the time of a whole one and took 16 MB", said)
    assert "need CUDA" in said
    for name in ("cold, ragged", "cold, filled", "warm, ragged", "warm, filled"):
        assert name in said

    page = (out / "memory.html").read_text("utf-8")
    assert page.count("<svg") == 8  # memory and time of four arms
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"<script|<link|https?://|url\(", page), "it is not self-contained"
    assert page.count("<tr>") == 1 + 2 * 4 + 2 * (3 + 4)
    with Image.open(out / "memory.png") as picture:
        assert picture.width > picture.height > 1000
        assert len(picture.getcolors(1 << 24) or ()) > 50

    assert main([*words.split(), "--out", str(out)]) == 2
    assert "has a memory.png already: remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--batch 1", "--batch 1 is out of range: pass 2 to 1024"),
        ("--frames many", "--frames many is no whole number"),
        ("--frames 64", "so none would be short: pass another number, as in 56"),
        ("--frames 40", "fewer than three whole batches of 16"),
        ("--geometry 33x16", "geometry 33x16 does not serve"),
        ("--out /dev/null/there", "--out /dev/null/there cannot be written to"),
        ("--modle x", "No such option"),
        ("--model nothing", "model 'nothing' is unknown: pass"),
        ("--model avatars:WrongShape --geometry 16x16", "the model fails: model answered (16, 3"),
    ],
)
def test_a_user_s_mistake_is_one_line_and_leaves_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["memory", *words.split()]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("omokage: ") and says in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user_s_stays_though_the_model_fails(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert main(["memory", "--model", "nothing", "--out", str(folder)]) == 2
    assert folder.is_dir()


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Root may write where the mode says that nobody may.
    monkeypatch.setattr("stream.memory.command.os.access", lambda *_: False)
    assert main(["memory", "--model", "mirror", "--out", str(tmp_path)]) == 2
    assert "cannot be written to (permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_it_finds_no_child_and_no_folder(tmp_path: Path, sent: int) -> None:
    mark = uuid.uuid4().hex
    command = subprocess.Popen(
        [sys.executable, "-m", "stream", "memory", "--model", "avatars:Slow80"],
        cwd=tmp_path,
        env={**os.environ, "MARK": mark},
        stderr=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + 20
        while not any("workers.experiment" in it for it in marked(mark).values()):
            assert time.monotonic() < until_s, "no child came"
            time.sleep(0.05)
        command.send_signal(sent)
        assert command.wait(10) == 130
        assert marked(mark) == {}
        assert list(tmp_path.iterdir()) == []
    finally:
        command.kill()
        command.wait()


# ------------------------------------------------------------- the sentences


def arm(
    start: Start,
    last: Last,
    times_ms: Sequence[float] = (100,) * 5,
    grown_mb: Sequence[float] = (0,) * 5,
    failure: str | None = None,
    **of_the_last: int,
) -> Arm:
    """Batches of 16 frames, and one of 8."""
    stretches = [
        Stretch(Phase.BATCH.value, number, 16, 16, ms, 0, int(mb * MB), 0, 0, 0)
        for number, (ms, mb) in enumerate(zip(times_ms, grown_mb, strict=True), 1)
    ]
    stretches[-1] = replace(stretches[-1], real=8, **of_the_last)
    warm = Stretch(Phase.WARM_UP.value, 1, 16, 16, 300, 0, 50 * MB, 0, 0, 0)
    kept = stretches[:-1] if failure else stretches
    return Arm(start, last, (warm,) if start is Start.WARM else (), tuple(kept), failure)


def experiment(arms: dict[tuple[Start, Last], Arm], device: str = "cpu") -> Experiment:
    plain = {(start, last): arm(start, last) for start in Start for last in Last}
    facts = Facts(device, "a device", "64x64", "2.13", 1, 7)
    return Experiment("m", 72, 16, False, facts, tuple((plain | arms).values()))


def both(
    start: Start | None, last: Last | None, **of_each: object
) -> dict[tuple[Start, Last], Arm]:
    return {
        (s, w): arm(s, w, **of_each)  # type: ignore[arg-type]  # as `arm` takes them
        for s in Start
        for w in Last
        if start in (None, s) and last in (None, w)
    }


def test_a_model_whose_batches_are_all_alike_is_told_that_nothing_helps() -> None:
    story = tell(experiment({}))
    assert "as good as any other here: warm-up spares next to nothing" in story.headline
    assert "costs nothing here, and prevents nothing" in story.headline
    assert "for this model the first batch is not slower" in story.paragraphs[0]


def test_a_slow_first_batch_is_told_with_its_factor_and_its_memory() -> None:
    cold = both(Start.COLD, None, times_ms=(250, 100, 100, 100, 100), grown_mb=(61, 0, 0, 0, 0))
    story = tell(experiment(cold))
    assert "takes 2.5 times as long as the others, and takes 61 MB" in story.headline


def test_memory_without_time_is_told_as_such() -> None:
    story = tell(experiment(both(Start.COLD, None, grown_mb=(61, 0, 0, 0, 0))))
    assert "61 MB of memory, but no more time" in story.headline


def test_one_slow_cold_run_of_two_proves_nothing() -> None:
    slow = arm(Start.COLD, Last.RAGGED, times_ms=(250, 100, 100, 100, 100))
    story = tell(experiment({(Start.COLD, Last.RAGGED): slow}))
    assert "the two runs disagree" in story.headline
    assert "measure again" in story.paragraphs[0]


def test_a_first_batch_that_is_slow_after_warm_up_too_is_told_so() -> None:
    slow = (250, 100, 100, 100, 100)
    once = both(Start.COLD, None, times_ms=slow) | {
        (Start.WARM, Last.RAGGED): arm(Start.WARM, Last.RAGGED, times_ms=slow)
    }
    story = tell(experiment(once))
    assert "Warm up: cold" in story.headline
    assert "in one of the two runs, warm-up or not" in story.paragraphs[0]
    assert "warm-up or not" in tell(experiment(both(None, None, times_ms=slow))).headline


def test_filling_that_costs_more_than_it_saves_is_called_so() -> None:
    story = tell(experiment(both(None, Last.RAGGED, times_ms=(100, 100, 100, 100, 50))))
    assert "costs 50 ms and prevents nothing here" in story.headline
    assert "on a CPU a fill row costs what a frame costs" in story.paragraphs[1]


def test_a_fill_that_costs_next_to_nothing_is_called_so_in_headline_and_text() -> None:
    story = tell(experiment(both(None, Last.RAGGED, times_ms=(100, 100, 100, 100, 97))))
    assert "Filling the last batch costs nothing here" in story.headline
    assert "it makes no difference here" in story.paragraphs[1]


def test_runs_that_a_busy_machine_slowed_tell_no_cost() -> None:
    slowed = arm(Start.COLD, Last.RAGGED, times_ms=(400, 400, 400, 400, 200))
    story = tell(experiment({(Start.COLD, Last.RAGGED): slowed}))
    assert "What filling costs, these runs do not tell" in story.headline
    assert "from 100 ms in one run to 400 ms in another" in story.paragraphs[1]
    assert "Measure again" in story.paragraphs[1]


def test_a_short_batch_that_compiles_again_must_be_filled() -> None:
    short = both(None, Last.RAGGED, times_ms=(100, 100, 100, 100, 9000), compiled_graphs=1)
    headline = tell(experiment(short)).headline
    assert "Fill the last batch: short, it made torch.compile build 1 graph more" in headline
    assert "took 8.9 s longer than filled" in headline


def test_device_allocations_of_a_short_batch_are_told_on_cuda() -> None:
    short = both(
        None, Last.RAGGED, times_ms=(100, 100, 100, 100, 180), device_allocations=3,
        grown_mb=(0, 0, 0, 0, 40),
    )  # fmt: skip
    it = experiment(short, "cuda:0")
    story = tell(it)
    assert "made 3 new device allocations, took 1.8 times" in story.headline
    assert "need CUDA" not in " ".join(story.paragraphs)
    assert "3" in table(it).splitlines()[1]


def test_a_model_that_fails_on_a_short_batch_is_told_to_be_filled() -> None:
    story = tell(experiment(both(None, Last.RAGGED, failure="RuntimeError: shape (a.py:7)")))
    assert "a short one must be filled" in story.headline
    assert "RuntimeError: shape (a.py:7)" in story.paragraphs[1]
