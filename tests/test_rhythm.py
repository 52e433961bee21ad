"""The smoothed interval of a source's frames: believed, and not fooled."""

from __future__ import annotations

import pytest

from workers.rhythm import Rhythm


def steady(rhythm: Rhythm, start_s: float, fps: float, frames: int) -> float:
    """Observe so many frames; the instant of the last."""
    for number in range(frames):
        rhythm.observe(start_s + number / fps)
    return start_s + (frames - 1) / fps


def test_before_the_second_frame_there_is_no_interval() -> None:
    rhythm = Rhythm()
    assert (rhythm.last_arrival_s, rhythm.interval_s) == (None, None)
    rhythm.observe(7.0)
    assert (rhythm.last_arrival_s, rhythm.interval_s) == (7.0, None)


def test_a_steady_source_has_its_own_interval() -> None:
    rhythm = Rhythm()
    steady(rhythm, 0.0, fps=30, frames=60)
    assert rhythm.interval_s == pytest.approx(1 / 30, rel=1e-6)


def test_a_minute_of_silence_hardly_moves_the_interval() -> None:
    rhythm = Rhythm()
    last_s = steady(rhythm, 0.0, fps=30, frames=60)
    rhythm.observe(last_s + 60)
    assert rhythm.interval_s is not None and rhythm.interval_s <= 1.13 / 30


def test_a_burst_hardly_moves_the_interval() -> None:
    rhythm = Rhythm()
    last_s = steady(rhythm, 0.0, fps=30, frames=60)
    for _ in range(3):
        rhythm.observe(last_s)
    assert rhythm.interval_s is not None and rhythm.interval_s >= 0.8 / 30


@pytest.mark.parametrize(("before_fps", "after_fps"), [(30, 5), (5, 30), (60, 24)])
def test_a_source_that_changes_its_rate_is_believed(before_fps: float, after_fps: float) -> None:
    rhythm = Rhythm()
    last_s = steady(rhythm, 0.0, before_fps, frames=30)
    steady(rhythm, last_s + 1 / after_fps, after_fps, frames=80)
    assert rhythm.interval_s == pytest.approx(1 / after_fps, rel=0.05)


def test_two_frames_at_one_instant_leave_an_interval_that_can_grow() -> None:
    rhythm = Rhythm()
    rhythm.observe(0.0)
    steady(rhythm, 0.0, fps=30, frames=80)
    assert rhythm.interval_s == pytest.approx(1 / 30, rel=0.05)
