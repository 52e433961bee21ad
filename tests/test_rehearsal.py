"""The rehearsal: what a CUDA graph refuses is named, what it takes passes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rehearsal_cases import BAD, GOOD, UNWISE, Step
from torch import Tensor, nn

from workers.geometry import Geometry
from workers.models.adapters import as_avatar
from workers.models.api import AvatarModel, Control, Tensors
from workers.models.loader import BUILT_IN, load_model
from workers.rehearsal import rehearse

SMALL = Geometry(32, 16)
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", BAD)
def test_what_a_graph_refuses_is_named(name: str) -> None:
    step, operation = BAD[name]
    verdict = rehearse(as_avatar(Step(step)), SMALL, 2)
    assert not verdict.capturable
    assert operation in str(verdict.operation), verdict
    if name != "ever fewer operations":  # what is missing has no line
        assert verdict.where and "rehearsal_cases.py:" in verdict.where, verdict
    assert "\n" not in str(verdict)


@pytest.mark.parametrize("name", GOOD)
def test_what_a_graph_takes_passes(name: str) -> None:
    verdict = rehearse(as_avatar(Step(GOOD[name])), SMALL, 2)
    assert verdict.capturable, verdict
    assert verdict.warnings == ()


@pytest.mark.parametrize("name", UNWISE)
def test_what_is_legal_but_unwise_is_a_warning_only(name: str) -> None:
    step, words = UNWISE[name]
    verdict = rehearse(as_avatar(Step(step)), SMALL, 2)
    assert verdict.capturable, verdict
    (warning,) = verdict.warnings
    assert words in warning


def test_the_table_has_cases_of_all_kinds() -> None:
    assert len(GOOD) + len(UNWISE) >= 45 and len(BAD) >= 45
    assert not {*GOOD} & {*BAD} and not {*UNWISE} & {*GOOD, *BAD}


class Block(nn.Module):
    def __init__(self, inner: int, outer: int, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inner, outer, 3, padding=1), norm
        self.drop = nn.Dropout2d(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(F.silu(self.norm(self.conv(x))))


class UNet(nn.Module):
    """An ordinary one: three kinds of norms, attention, skips, a warp at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.down = Block(3, 8, nn.BatchNorm2d(8))
        self.deep = Block(8, 16, nn.GroupNorm(4, 16))
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.shift = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = Block(16, 8, nn.InstanceNorm2d(8))
        self.flow, self.colour = nn.Conv2d(8, 2, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.deep(F.max_pool2d(skip, 2))
        b, c, h, w = deep.shape
        tokens = deep.flatten(2).transpose(1, 2)
        tokens = self.shift(tokens + self.attention(tokens, tokens, tokens)[0])
        wide = self.up(tokens.transpose(1, 2).reshape(b, c, h, w))
        last = self.last(torch.cat([wide, skip], 1))
        identity = torch.eye(2, 3, device=x.device).expand(b, 2, 3)
        grid = F.affine_grid(identity, [b, 3, x.shape[2], x.shape[3]], align_corners=False)
        grid = grid + 0.1 * torch.tanh(self.flow(last)).permute(0, 2, 3, 1)
        return torch.sigmoid(self.colour(last)) * F.grid_sample(x, grid, align_corners=False)


class Whole(AvatarModel):
    """Uses all that the interface has."""

    controls = {"gain": Control(0.0, 2.0, 1.0)}  # noqa: RUF012
    reads_banks = True

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)
        self.register_buffer("frames_seen", torch.zeros((), dtype=torch.int64))

    def identity(self, portrait: Tensor) -> Tensors:
        return {"colour": portrait.mean((1, 2)).nonzero().sum(0).float().expand(3)}

    def initial_state(self) -> Tensors:
        return {"mean": torch.zeros(3)}

    def forward(  # type: ignore[override]
        self,
        frames: Tensor,
        identity: Tensors,
        state: Tensors,
        controls: Tensors,
        dt_s: Tensor,
        rows: Tensor,
    ) -> tuple[Tensor, Tensors]:
        self.frames_seen += 1
        colour = self.mix(identity["colour"][rows]) * controls["gain"][:, None]
        mean = state["mean"] + (frames.mean((2, 3)) - state["mean"]) * dt_s[:, None]
        return (frames + (mean + colour)[:, :, None, None]).clamp(0, 1), {"mean": mean}


def test_an_ordinary_u_net_passes() -> None:
    verdict = rehearse(as_avatar(UNet().eval()), SMALL, 4)
    assert verdict.capturable, verdict
    assert verdict.warnings == ()


def test_dropout_left_on_is_a_warning_only() -> None:
    verdict = rehearse(as_avatar(UNet().train()), SMALL, 4)
    assert verdict.capturable, verdict
    assert any("dropout" in warning for warning in verdict.warnings)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_model_passes(name: str) -> None:
    verdict = rehearse(load_model(name, CPU), Geometry(64, 48), 3)
    assert verdict.capturable, verdict
    assert verdict.warnings == ()


def test_a_model_with_identity_state_controls_and_banks_passes() -> None:
    verdict = rehearse(Whole(), SMALL, 3)
    assert verdict.capturable, verdict


def test_an_exported_model_passes_though_its_graph_names_a_device(tmp_path: Path) -> None:
    class Shaded(UNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.tensor([1.0, 0.5]).mean() + torch.arange(32) * 0

    path = tmp_path / "unet.pt2"
    program = torch.export.export(Shaded().eval(), (torch.rand(2, 3, 16, 32),))
    torch.export.save(program, path)
    verdict = rehearse(load_model(str(path), CPU), SMALL, 2)
    assert verdict.capturable, verdict


def test_an_exported_model_without_weights_passes(tmp_path: Path) -> None:
    path = tmp_path / "ramp.pt2"
    ramp = Step(lambda m, x: x * torch.linspace(0, 1, 32))
    torch.export.save(torch.export.export(ramp, (torch.rand(2, 3, 16, 32),)), path)
    model = load_model(str(path), CPU)
    assert rehearse(model, SMALL, 2).capturable


@pytest.mark.parametrize(
    ("step", "operation"),
    [
        (lambda m, x: x * x.mean().item(), "item"),
        (lambda m, x: x * x.flatten().nonzero().shape[0], "nonzero"),
        (lambda m, x: x * x[x > 0.5].sum(), "boolean mask"),
        (lambda m, x: x * torch.linalg.svdvals(x).sum(), "svd"),
    ],
)
def test_a_bad_exported_model_is_refused(
    tmp_path: Path, step: Callable[[Step, Tensor], object], operation: str
) -> None:
    path = tmp_path / "bad.pt2"
    torch.export.save(torch.export.export(Step(step).eval(), (torch.rand(2, 3, 16, 32),)), path)
    verdict = rehearse(load_model(str(path), CPU), SMALL, 2)
    assert not verdict.capturable
    assert operation in str(verdict.operation), verdict


def test_the_model_and_the_random_generator_are_left_as_they_were() -> None:
    model = Whole().train()
    before = copy.deepcopy(model.state_dict())
    kept = {name: id(value) for name, value in model.named_buffers()}
    seed = torch.random.get_rng_state()
    rehearse(model, SMALL, 2)
    assert model.training
    assert model.frames_seen == 0
    assert {name: id(value) for name, value in model.named_buffers()} == kept
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), seed)
    assert torch.cuda.synchronize.__module__ == "torch.cuda"
    assert torch.from_numpy(np.ones(1)).item() == 1


def test_a_model_made_in_inference_mode_is_rehearsed_from_there() -> None:
    with torch.inference_mode():
        verdict = rehearse(as_avatar(UNet().eval()), SMALL, 2)
        assert torch.is_inference_mode_enabled()
    assert verdict.capturable, verdict


def test_a_model_that_cannot_be_copied_is_refused_in_words() -> None:
    model = Step(lambda m, x: x)
    model.lines = (line for line in [])  # type: ignore[assignment]  # a generator has no copy
    verdict = rehearse(as_avatar(model), SMALL, 2)
    assert not verdict.capturable
    assert "copying the model failed" in str(verdict)


def test_a_model_that_fails_is_refused_with_its_error_and_place() -> None:
    verdict = rehearse(as_avatar(Step(lambda m, x: x @ x)), SMALL, 2)
    assert not verdict.capturable
    assert verdict.operation == "matmul"
    assert verdict.where and "test_rehearsal.py:" in verdict.where
