"""`omokage check`: the shapes, the operation that would not capture, and bounds in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paced import play
from server import TESTS

from stream.check import codec_bound
from stream.check.bound import sessions
from stream.check.saturation import Saturated, saturate
from stream.check.show import inspect, is_ready, judge, screen
from stream.cli import main
from stream.codecs import Codec
from workers.geometry import Geometry
from workers.inspection_messages import Inspected
from workers.messages import Fill, WorkerSpec

SPEC = WorkerSpec(
    index=0,
    model="avatars:Slow5",
    device="cpu",
    geometry=Geometry(32, 32),
    batch_sizes=None,
    max_wait_s=0.008,
    fill=Fill.LAST,
    max_sessions=1,
    threads=1,
    compile=False,
)
FIT = Inspected(
    device="cpu",
    device_name="a CPU",
    geometry="32x32",
    batch_size=None,
    parameters=12,
    weight_bytes=48,
    takes="(B, 3, 32, 32) float32",
    gives="(B, 3, 32, 32) float32",
    low=0.0,
    high=1.0,
    identity={"colour": "(3,) float32"},
    state={},
    controls={"gain": [0.0, 2.0, 1.0]},
    reads_banks=False,
    is_capturable=True,
    verdict="the step would capture as a CUDA graph",
    warnings=[],
)
QUICK = Saturated(4, 400.0, (390.0, 400.0), (9.0, 10.0, 11.0), 4.0, 10**8, False, "a CPU")
SLOW = replace(QUICK, frames_s=80.0, batches_ms=(50.0,))


@pytest.fixture(autouse=True)
def tests_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{TESTS.parent}:{TESTS}")


def test_lanes_at_the_bound_keep_their_frames_and_twice_as_many_do_not() -> None:
    found = saturate(SPEC, 2, 0.5, lambda doing: None)
    bound = sessions(found.frames_s, 2)
    assert 1 <= bound <= 14, "a batch of two takes 5 ms: 16 lanes are the very most"
    assert found.rows > 1.9, "the batches were not full"
    at_bound = play(SPEC, 2, bound, 2.0, settle_s=0.5)
    beyond = play(SPEC, 2, 2 * bound + 2, 2.0, settle_s=0.5)
    assert at_bound.lost + 0.1 < beyond.lost


def test_the_operation_that_would_not_capture_is_named_and_where_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "check avatars:Peeking --device cpu --geometry 32x32 --batch 2 --seconds 1"
    assert main(words.split()) == 1
    lines = capsys.readouterr().out.splitlines()
    verdict = " ".join(lines[lines.index("", len(lines) - 4) + 1 :])
    assert verdict.startswith("not ready: the step would not capture as a CUDA graph: ")
    assert "item" in verdict and "avatars.py:" in verdict
    assert len(lines) <= 25 and max(map(len, lines)) <= 110, "it is more than a screen"
    assert any(line.startswith("    2  ") and "sessions" in line for line in lines)


def test_identity_state_and_controls_are_told_with_their_shapes() -> None:
    counting = inspect(replace(SPEC, model="avatars:Counting"))
    assert counting.state == {"count": "() int64"} and counting.identity == {}
    assert counting.controls == {"gain": [0.0, 2.0, 1.0]}
    assert counting.takes == counting.gives == "(B, 3, 32, 32) float32"
    tinted = inspect(replace(SPEC, model="avatars:Tinted"))
    assert tinted.identity == {"colour": "(3,) float32"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "Missing argument 'MODEL'"),
        ("toon --batch 4,1", "--batch 4,1 is not ascending"),
        ("toon --batch 0", "--batch 0 holds a size below 1"),
        ("toon --seconds 0", "--seconds 0 is out of range"),
        ("nothing", "model 'nothing' is unknown: pass"),
        ("avatars:WrongShape --geometry 16x16", "the model fails on a batch of 2: model answered"),
    ],
)
def test_a_user_s_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    assert main(["check", *words.split()]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("omokage: ") and says in line


def test_ready_is_a_model_that_captures_and_bears_a_session() -> None:
    unfit = replace(FIT, is_capturable=False, verdict="it would not capture: item at a.py:7")
    assert is_ready(FIT, [SLOW, QUICK]) and not is_ready(FIT, [SLOW])
    assert not is_ready(unfit, [QUICK])
    assert judge(FIT, [SLOW, QUICK]) == "ready: 14 sessions at batch 4 on this device"
    assert "item at a.py:7" in judge(unfit, [QUICK])
    assert "no batch size keeps up with one session of 25" in judge(FIT, [SLOW])


def test_the_screen_says_why_a_batch_size_bears_nobody() -> None:
    lines = list(screen(SPEC, replace(FIT, warnings=["randn: random"]), [SLOW, QUICK], []))
    text = "\n".join(lines)
    assert "0 sessions: a batch takes 50 ms" in text and "14 sessions" in text
    assert "colour (3,) float32" in text and "gain 0 to 2 (default 1)" in text
    assert "warning: randn: random" in text


def test_a_larger_picture_costs_the_codecs_more_and_more_cores_bear_more() -> None:
    for codec in Codec:
        small = codec_bound.measure(codec, Geometry(64, 64))
        large = codec_bound.measure(codec, Geometry(320, 320))
        assert 0 < small.decode_ms < large.decode_ms
        assert 0 < small.encode_ms < large.encode_ms
        assert large.sessions(16) > large.sessions(4) > 0
