"""Head and shoulders, cut out of any picture."""

from __future__ import annotations

import pytest
import torch
from faces import nobody, portrait, scene
from puppets import puppet

from workers.errors import ModelError
from workers.models.face.mesh import LEFT_CHEEK, RIGHT_CHEEK
from workers.models.puppet import framing
from workers.models.puppet.framing import FACE, SIDE, WIDEST_FACE, frame_portrait


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.inference_mode():
        yield


def width_of(points: torch.Tensor) -> float:
    return float((points[LEFT_CHEEK] - points[RIGHT_CHEEK]).norm()) / SIDE


@pytest.mark.parametrize(("x", "y", "size"), [(0.0, 0.0, 0.5), (0.4, -0.3, 0.3)])
def test_a_face_is_found_and_shown_equally_large(x: float, y: float, size: float) -> None:
    framed = frame_portrait(scene(x, y, size, side=640)[0], puppet().performer.tracker)

    assert framed.picture.shape == (3, SIDE, SIDE)
    assert width_of(framed.points) == pytest.approx(FACE, rel=0.08)
    assert 0.3 * SIDE < float(framed.points[4, 0]) < 0.7 * SIDE  # the nose


def test_a_picture_that_is_all_face_is_shown_larger_within_bounds() -> None:
    framed = frame_portrait(portrait()[0], puppet().performer.tracker)

    assert FACE < width_of(framed.points) < WIDEST_FACE * 1.08


def test_the_points_go_with_the_picture() -> None:
    """What is found in the whole picture and what is found in the cut are one face."""
    tracker = puppet().performer.tracker
    framed = frame_portrait(scene(0.2, 0.1, 0.4, side=512)[0], tracker)

    again = framing.find_face(framed.picture, tracker)

    assert float((again - framed.points)[:, :2].norm(dim=1).mean()) < 1.0


def test_an_alpha_plane_is_cut_alike() -> None:
    picture = scene(0.3, 0.0, 0.4, side=400)[0]
    alpha = (picture.mean(0, keepdim=True) != 0.5).float()

    framed = frame_portrait(torch.cat([picture, alpha]), puppet().performer.tracker)

    nose = framed.points[4, :2].long()
    assert framed.picture.shape[0] == 4
    assert float(framed.picture[3, nose[1], nose[0]]) > 0.9
    assert float(framed.picture[3, :8, :8].max()) < 0.1


def test_nobody_gets_one_clear_line() -> None:
    with pytest.raises(ModelError, match="no face was found in the portrait: choose a picture"):
        frame_portrait(nobody()[0], puppet().performer.tracker)
