"""The person is told from the background."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from faces import portrait
from safetensors.torch import load_file
from torch import Tensor

from workers.models.face.weights import load_net
from workers.models.puppet.framing import SIDE
from workers.models.puppet.matte import WEIGHTS, matte
from workers.models.puppet.matte_net import MatteNet
from workers.models.puppet.portraits import PORTRAITS
from workers.picture import read_picture

ORIGINAL = Path(__file__).with_name("matte.safetensors")  # by scripts/convert_face_weights


@pytest.fixture(autouse=True)
def _no_gradients():  # type: ignore[no-untyped-def]  # a generator for pytest alone
    with torch.inference_mode():
        yield


def shipped(name: str) -> Tensor:
    """(3 or 4, 512, 512) in [0, 1]."""
    found = read_picture(PORTRAITS[name].read_bytes())
    flat = torch.frombuffer(bytearray(found.pixels), dtype=torch.uint8)
    planes = flat.reshape(found.height, found.width, found.channels).permute(2, 0, 1) / 255
    return torch.nn.functional.interpolate(planes[None], size=(SIDE, SIDE), mode="area")[0]


def test_the_net_agrees_with_the_original_up_to_its_last_step() -> None:
    net = load_net(MatteNet, "matte", WEIGHTS)
    seen: list[Tensor] = []
    net.person.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(portrait())
    theirs = load_file(ORIGINAL)["features"]
    assert (torch.nn.functional.avg_pool2d(seen[0], 8)[0] - theirs).abs().max() < 0.01


def test_a_photograph_is_split_into_person_and_background() -> None:
    found = matte(shipped("astronaut"))
    assert found.shape == (SIDE, SIDE) and 0 <= float(found.min()) <= float(found.max()) <= 1
    assert found[150:280, 225:285].min() > 0.95  # the face
    assert found[470:, 150:350].mean() > 0.95  # the chest
    assert found[:100, 420:500].max() < 0.05 and found[:12].max() < 0.05
    soft = ((found > 0.05) & (found < 0.95)).float().mean()
    assert 0.001 < float(soft) < 0.05  # an edge, and nothing but an edge


@pytest.mark.parametrize("name", ["yuki", "bruno"])
def test_what_is_found_is_what_was_drawn(name: str) -> None:
    drawn = shipped(name)
    found = matte(drawn[:3])
    both, either = torch.minimum(found, drawn[3]).sum(), torch.maximum(found, drawn[3]).sum()
    assert float(both / either) > 0.93


def test_an_alpha_that_came_along_is_the_answer() -> None:
    drawn = shipped("ember")
    assert torch.equal(matte(drawn), drawn[3])


def test_an_alpha_that_says_nothing_is_not_believed() -> None:
    photograph = shipped("astronaut")
    opaque = torch.cat([photograph, torch.ones(1, SIDE, SIDE)])
    assert torch.equal(matte(opaque), matte(photograph))
    assert float(matte(opaque).mean()) < 0.8


def test_the_weights_are_named_in_their_notice() -> None:
    notice = (WEIGHTS / "NOTICE").read_text()
    files = list(WEIGHTS.glob("*.safetensors"))
    assert [file.name for file in files] == ["matte.safetensors"]
    assert "matte.safetensors" in notice and "Apache License" in notice
    assert files[0].stat().st_size < 260_000
