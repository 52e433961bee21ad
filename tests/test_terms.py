"""The terms a worker runs at."""

from __future__ import annotations

import pytest

from workers.errors import ModelError, SettingsError
from workers.geometry import Geometry
from workers.terms import choose_batch_sizes, choose_geometry

SMALL, LARGE = Geometry(256, 256), Geometry(512, 512)


def test_the_device_decides_where_nobody_else_does() -> None:
    assert choose_geometry(None, None, on_cuda=True) == LARGE
    assert choose_geometry(None, None, on_cuda=False) == SMALL


def test_the_user_decides_for_a_model_that_takes_any() -> None:
    assert choose_geometry(Geometry(320, 240), None, on_cuda=False) == Geometry(320, 240)


def test_a_model_with_one_geometry_refuses_another_in_words() -> None:
    assert choose_geometry(None, LARGE, on_cuda=False) == LARGE
    with pytest.raises(ModelError, match="512x512 only, --geometry asks for 256x256"):
        choose_geometry(SMALL, LARGE, on_cuda=False)


def test_a_batch_is_never_larger_than_the_lanes_can_fill() -> None:
    assert choose_batch_sizes(None, None, 16, on_cuda=True) == (16,)
    assert choose_batch_sizes(None, None, 6, on_cuda=True) == (6,)
    with pytest.raises(SettingsError, match="--max-sessions 32"):
        choose_batch_sizes((4, 32), None, 16, on_cuda=True)


def test_a_cpu_runs_one_frame_at_a_time_unless_asked() -> None:
    assert choose_batch_sizes(None, None, 16, on_cuda=False) == (1,)
    assert choose_batch_sizes((8, 4), None, 16, on_cuda=False) == (4, 8)


def test_a_model_exported_for_one_batch_runs_at_that() -> None:
    assert choose_batch_sizes(None, 4, 16, on_cuda=True) == (4,)
    assert choose_batch_sizes((4,), 4, 16, on_cuda=True) == (4,)
    with pytest.raises(ModelError, match="batch 4 only"):
        choose_batch_sizes((8,), 4, 16, on_cuda=True)
