"""The portraits that ship are fit to be puppets, and say where they are from."""

from __future__ import annotations

import hashlib
import re
from functools import cache

import pytest
import torch
from torch import Tensor

from workers.models.face import mesh
from workers.models.face.performance import Performer
from workers.models.puppet.framing import find_face
from workers.models.puppet.portraits import FOLDER, PORTRAITS
from workers.picture import read_picture

DRAWN = ("ember", "yuki", "bruno")


@pytest.fixture(autouse=True)
def _no_gradients():  # type: ignore[no-untyped-def]  # a generator for pytest alone
    with torch.inference_mode():
        yield


@cache
def picture(name: str) -> Tensor:
    found = read_picture(PORTRAITS[name].read_bytes())
    flat = torch.frombuffer(bytearray(found.pixels), dtype=torch.uint8)
    return flat.reshape(found.height, found.width, found.channels).permute(2, 0, 1) / 255


@cache
def points(name: str) -> Tensor:
    with torch.inference_mode():
        return find_face(picture(name)[:3], Performer().tracker)


def apart(name: str, one: int, other: int) -> float:
    return float((points(name)[one, :2] - points(name)[other, :2]).norm())


def test_there_is_a_choice_and_a_first_one() -> None:
    assert len(PORTRAITS) >= 3 and set(DRAWN) < set(PORTRAITS)
    assert all(re.fullmatch(r"[a-z0-9-]{1,64}", name) for name in PORTRAITS)


def test_no_file_lies_there_that_nobody_can_choose() -> None:
    assert set(FOLDER.glob("*.webp")) == set(PORTRAITS.values())
    assert {file.name for file in FOLDER.iterdir()} - {"NOTICE"} == {
        path.name for path in PORTRAITS.values()
    }


@pytest.mark.parametrize("name", PORTRAITS)
def test_it_is_square_and_small(name: str) -> None:
    channels, height, width = picture(name).shape
    assert height == width >= 512 and channels == (4 if name in DRAWN else 3)
    assert PORTRAITS[name].stat().st_size < 200_000


@pytest.mark.parametrize("name", PORTRAITS)
def test_the_notice_says_where_it_is_from(name: str) -> None:
    notice = (FOLDER / "NOTICE").read_text()
    assert PORTRAITS[name].name in notice
    assert hashlib.sha256(PORTRAITS[name].read_bytes()).hexdigest() in notice


@pytest.mark.parametrize("name", PORTRAITS)
def test_a_face_looks_out_of_the_middle_of_it_with_open_eyes(name: str) -> None:
    side = picture(name).shape[-1]
    width = apart(name, mesh.RIGHT_CHEEK, mesh.LEFT_CHEEK)
    assert 0.2 < width / side < 0.4  # there is room for it to turn
    assert (points(name)[168, :2] / side - torch.tensor([0.48, 0.4])).abs().max() < 0.12
    for outer, inner, upper, lower in ((33, 133, 159, 145), (263, 362, 386, 374)):
        assert apart(name, upper, lower) > 0.2 * apart(name, outer, inner)


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_mouth_is_shut(name: str) -> None:
    width = apart(name, mesh.RIGHT_CHEEK, mesh.LEFT_CHEEK)
    assert apart(name, mesh.UPPER_LIP, mesh.LOWER_LIP) < 0.025 * width


@pytest.mark.parametrize("name", DRAWN)
def test_the_alpha_of_what_is_drawn_is_the_person(name: str) -> None:
    alpha = picture(name)[3]
    side = len(alpha)
    around = points(name)[list(mesh.OVAL), :2].round().long()
    assert alpha[around[:, 1], around[:, 0]].min() > 0.98
    assert alpha[: side // 16].max() == 0 and alpha[: side // 2, : side // 16].max() == 0
    assert alpha[-1, side // 4 : -side // 4].min() > 0.98  # the shoulders leave the picture
    edge = ((alpha > 0) & (alpha < 1)).float().mean()
    assert 0.001 < float(edge) < 0.08
    assert picture(name)[:3, : side // 16].mean() > 0.02  # behind the person there is something
