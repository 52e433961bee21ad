"""The card before the first frame."""

import numpy as np
import pytest

from stream.card import make_card
from workers.geometry import Geometry


@pytest.mark.parametrize("size", ["16x16", "64x48", "512x512", "360x640", "1280x720"])
def test_it_is_an_i420_frame_of_the_geometry_in_limited_range(size: str) -> None:
    geometry = Geometry.parse(size)
    card = make_card(geometry)
    assert card.shape == (geometry.rows, geometry.width) and card.dtype == np.uint8
    assert card.min() >= 16 and card.max() <= 235


def test_a_head_is_lighter_than_its_ground_and_lies_in_the_middle() -> None:
    luma = make_card(Geometry(320, 240))[:240].astype(int)
    assert luma[92, 160] > luma[92, 40] + 20
    assert np.abs(luma - luma[:, ::-1]).max() <= 1
