"""The puppet as a model: from a picture and frames to a portrait that follows."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from faces import nobody, portrait, rows, scene
from puppets import drawn, identity, puppet, still, whole
from torch import Tensor

from workers.errors import ModelError
from workers.geometry import Geometry
from workers.models.api import Tensors
from workers.models.puppet.patches import Patches, View
from workers.rehearsal import rehearse


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.inference_mode():
        yield


def banks(count: int = 2) -> Tensors:
    """Another portrait in each row: the first is the one in `faces`, the others are mirrored."""
    first, other = identity(), other_identity()
    return {name: torch.stack([first[name]] + [other[name]] * (count - 1)) for name in first}


@cache
def other_identity() -> Tensors:
    return puppet().identity(portrait()[0].flip(-1))


def played(frames: list[Tensor], lanes: list[int], bank: Tensors) -> Tensor:
    """The last picture of each row after these frames."""
    count = len(lanes)
    model, state = puppet(), rows(puppet().initial_state(), count)
    controls = {name: torch.full((count,), it.default) for name, it in model.controls.items()}
    for frame in frames:
        picture, state = model(
            frame, bank, state, controls, torch.full((count,), 0.04), torch.tensor(lanes)
        )
    return picture


def performing(count: int) -> list[Tensor]:
    """Frames in which each row's face is somewhere else."""
    return [
        torch.cat(
            [scene(0.05 * step + 0.03 * row, 0.02 * row, 0.6, side=128) for row in range(count)]
        )
        for step in range(3)
    ]


def test_at_rest_it_is_the_portrait() -> None:
    difference = (drawn(still()) - whole()).abs()

    assert float(difference.mean()) < 0.3 / 255
    assert float((difference.amax(1) > 0.1).float().mean()) < 0.002


def test_it_is_drawn_as_large_as_is_asked() -> None:
    small, large = drawn(still(), 256, 256), drawn(still(), 512, 512)

    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert float((small - shrunk).abs().mean()) < 3 / 255


def test_a_wide_frame_shows_the_middle_of_the_square() -> None:
    square, wide = drawn(still(), 320, 320), drawn(still(), 180, 320)

    assert torch.allclose(wide, square[:, :, 70:250], atol=1e-5)


def test_patches_stay_in_the_frame_wherever_the_head_is() -> None:
    view = View(72, 128)
    middles = torch.tensor([[[-900.0, 30.0], [256.0, 256.0], [5000.0, 900.0]]])

    patches = Patches.around(middles, 0.2, view)

    assert int(patches.at.min()) >= 0 and int(patches.at.max()) < 72 * 128
    each = patches.at.reshape(3, -1)
    assert all(len(one.unique()) == each.shape[1] for one in each)
    assert patches.places.shape[-1] * 3 * patches.places.shape[-1] == patches.at.shape[1]


def test_identities_of_any_portraits_are_shaped_alike() -> None:
    shapes = [
        {name: (tuple(row.shape), row.dtype) for name, row in it.items()}
        for it in (identity(), other_identity())
    ]

    assert shapes[0] == shapes[1]
    size = sum(row.numel() * row.element_size() for row in identity().values())
    assert size < 20e6


def test_a_portrait_without_a_face_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="no face was found in the portrait"):
        puppet().identity(nobody()[0])


def test_every_shipped_portrait_is_there() -> None:
    assert puppet().portraits
    assert all(path.is_file() for path in puppet().portraits.values())


def test_a_row_is_drawn_from_its_own_identity() -> None:
    bank, frames = banks(), [torch.cat([nobody(128)] * 2)]

    there, swapped = played(frames, [0, 1], bank), played(frames, [1, 0], bank)

    assert torch.equal(there.flip(0), swapped)
    assert float((there[0] - there[1]).abs().mean()) > 0.02


def test_a_row_is_the_same_to_the_bit_whatever_travels_beside_it() -> None:
    bank, frames = banks(4), performing(4)
    others = [torch.cat([frame[:1], frame[1:].flip(0)]) for frame in frames]

    assert torch.equal(played(frames, [0, 1, 2, 3], bank)[0], played(others, [0, 3, 3, 3], bank)[0])


def test_a_row_is_nearly_the_same_in_any_batch() -> None:
    bank, frames = banks(4), performing(4)

    four = played(frames, [0, 1, 2, 3], bank)[0]
    one = played([frame[:1] for frame in frames], [0], bank)[0]

    assert float((four - one).abs().max()) <= 1 / 255


def test_it_moves_when_the_performer_does() -> None:
    frames = [scene(0.0, 0.0, 0.6, side=128)] * 12 + [scene(0.12, 0.0, 0.6, side=128)] * 6
    bank = banks(1)

    before, after = played(frames[:12], [0], bank), played(frames, [0], bank)

    assert float((before - after).abs().mean()) > 2 / 255


def test_its_step_would_capture() -> None:
    with torch.inference_mode(False):
        verdict = rehearse(puppet(), Geometry(64, 64), 2)

    assert verdict.capturable, str(verdict)


def test_it_exports_and_the_export_draws_the_same() -> None:
    model, bank = puppet(), banks(1)
    controls = {name: torch.full((1,), it.default) for name, it in model.controls.items()}
    frame, dt_s, lanes = scene(side=64), torch.full((1,), 0.04), torch.tensor([0])
    asked = (frame, bank, rows(model.initial_state()), controls, dt_s, lanes)
    with torch.inference_mode(False), torch.no_grad():
        asked = tuple(_plain(it) for it in asked)
        program = torch.export.export(model, asked)

        assert torch.equal(program.module()(*asked)[0], model(*asked)[0])


def _plain(value: object) -> object:
    """A copy that was not made in inference mode."""
    if isinstance(value, dict):
        return {name: _plain(it) for name, it in value.items()}
    assert isinstance(value, Tensor)
    return value.clone()
