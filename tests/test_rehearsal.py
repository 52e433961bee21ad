"""The rehearsal: what a CUDA graph refuses is named, what it takes passes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workers.geometry import Geometry
from workers.models.adapters import as_avatar
from workers.models.api import AvatarModel, Control, Tensors
from workers.models.loader import BUILT_IN, load_model
from workers.rehearsal import rehearse

SMALL = Geometry(32, 16)
CPU = torch.device("cpu")

GLOBAL = torch.rand(32)


class Step(nn.Module):
    """A model whose step is one function of itself and the frames."""

    def __init__(self, step: Callable[[Step, Tensor], object]) -> None:
        super().__init__()
        self.step = step
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("scale", torch.rand(3, 1, 1))
        self.register_buffer("order", torch.tensor([2, 1, 0]))
        self.register_buffer("where", torch.tensor([True, False, True]))
        self.plain = torch.rand(3, 1, 1)
        self.grid: Tensor | None = None

    def forward(self, frames: Tensor) -> Tensor:
        answer = self.step(self, frames)
        return answer if isinstance(answer, Tensor) and answer.shape == frames.shape else frames


def lazily(step: Step, x: Tensor) -> Tensor:
    if step.grid is None:
        step.grid = torch.linspace(0, 1, 32).to(x.device)
    return x * step.grid


def if_tensor(step: Step, x: Tensor) -> Tensor:
    if x.mean() > 2:
        return x * 2
    return x


def swallowed(step: Step, x: Tensor) -> Tensor:
    try:
        return x * x.mean().item()
    except Exception:
        return x


def set_zero(x: Tensor, mask: Tensor, value: object) -> Tensor:
    x = x.clone()
    x[mask] = value
    return x


# name: (step, what the verdict's operation must contain)
BAD: dict[str, tuple[Callable[[Step, Tensor], object], str]] = {
    "item": (lambda m, x: x.sum().item(), ".item()"),
    "item swallowed": (swallowed, ".item()"),
    "if tensor": (if_tensor, "if tensor"),
    "bool": (lambda m, x: bool(x.sum() > 0), "if tensor"),
    "while": (lambda m, x: not x.any(), "if tensor"),
    "cpu": (lambda m, x: x.cpu() * 1, ".cpu()"),
    "to cpu": (lambda m, x: x.to("cpu") * 1, ".to('cpu')"),
    "to cpu device": (lambda m, x: x.to(device=torch.device("cpu")), ".to('cpu')"),
    "tolist": (lambda m, x: x[0, 0, 0].tolist(), ".tolist()"),
    "numpy": (lambda m, x: x.numpy(), ".numpy()"),
    "asarray": (lambda m, x: np.asarray(x), "asarray"),
    "float": (lambda m, x: x * float(x.mean()), "float(tensor)"),
    "int": (lambda m, x: x * int(x.mean() * 9), "int(tensor)"),
    "math": (lambda m, x: x * math.sqrt(x.mean()), "float(tensor)"),
    "range": (lambda m, x: [x for _ in range((x.mean() * 0).long() + 2)], "index"),
    "f-string": (lambda m, x: f"{x.max():.2f}", "f-string"),
    "print": (lambda m, x: str(x), "print"),
    "in": (lambda m, x: 0.5 in x, "in tensor"),
    "equal": (lambda m, x: torch.equal(x, x + 1), "equal"),
    "allclose": (lambda m, x: torch.allclose(x, x + 1), "allclose"),
    "boolean mask": (lambda m, x: x[x > 0.5], "boolean mask"),
    "boolean buffer": (lambda m, x: x[:, m.where], "boolean mask"),
    "mask takes a tensor": (
        lambda m, x: set_zero(x, x > 0.5, x.new_zeros(1)),
        "boolean mask",
    ),
    "mask assigned from mask": (
        lambda m, x: set_zero(x, x > 0.5, x[x > 0.5]),
        "boolean mask",
    ),
    "index_put": (lambda m, x: x.clone().index_put_((x > 0.5,), m.scale[0, 0, 0]), "mask"),
    "masked_select": (lambda m, x: torch.masked_select(x, x > 0.5), "masked_select"),
    "nonzero": (lambda m, x: x.nonzero(), "nonzero"),
    "argwhere": (lambda m, x: torch.argwhere(x > 0.5), "argwhere"),
    "where of one": (lambda m, x: torch.where(x > 0.5), "where"),
    "unique": (lambda m, x: torch.unique(x), "unique"),
    "bincount": (lambda m, x: torch.bincount((x * 9).long().flatten()), "bincount"),
    "repeat_interleave": (
        lambda m, x: torch.repeat_interleave(x[0], m.order, dim=0),
        "repeat_interleave",
    ),
    "one_hot counts": (lambda m, x: F.one_hot((x * 3).long()), "one_hot"),
    "tensor": (lambda m, x: x + torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), "torch.tensor"),
    "tensor on its device": (
        lambda m, x: x + torch.tensor([1.0, 2.0, 3.0], device=x.device).view(3, 1, 1),
        "torch.tensor",
    ),
    "number on its device": (lambda m, x: x * torch.tensor(2.0, device=x.device), "torch.tensor"),
    "as_tensor": (lambda m, x: x + torch.as_tensor([1.0] * 32), "torch.as_tensor"),
    "new_tensor": (lambda m, x: x + x.new_tensor([1.0] * 32), "new_tensor"),
    "legacy Tensor": (lambda m, x: x + torch.Tensor([1.0] * 32), "tensor of values"),
    "from_numpy": (lambda m, x: x + torch.from_numpy(np.ones(32, "f4")), "torch.from_numpy"),
    "arange": (lambda m, x: x + torch.arange(32), "torch.arange"),
    "arange moved": (lambda m, x: x + torch.arange(32).to(x.device), "torch.arange"),
    "zeros": (lambda m, x: x + torch.zeros(32), "torch.zeros"),
    "linspace": (lambda m, x: x + torch.linspace(0, 1, 32), "torch.linspace"),
    "randn on the host": (lambda m, x: x + torch.randn(32), "torch.randn"),
    "hann_window": (lambda m, x: x * torch.hann_window(32), "torch.hann_window"),
    "born on the host by name": (lambda m, x: x + torch.ones(32, device="cpu"), "add"),
    "list index": (lambda m, x: x[:, [2, 1, 0]], "list index"),
    "list index alone": (lambda m, x: x[[0, 0]], "list index"),
    "list index assigned": (lambda m, x: x.clone().__setitem__((0, [0, 1]), 0.0), "list index"),
    "numpy index": (lambda m, x: x[:, np.array([2, 1, 0])], "numpy index"),
    "host index": (lambda m, x: x[:, m.plain[:, 0, 0].long()], "index"),
    "plain attribute": (lambda m, x: x * m.plain, "mul"),
    "plain attribute moved": (lambda m, x: x * m.plain.to(x.device), "to"),
    "global": (lambda m, x: x * GLOBAL, "mul"),
    "copy from the host": (lambda m, x: x.clone().copy_(GLOBAL), "copy"),
    "svd": (lambda m, x: torch.linalg.svd(x[:, 0]), "svd"),
    "pinv": (lambda m, x: torch.linalg.pinv(x[:, 0]), "pinv"),
    "eigh": (lambda m, x: torch.linalg.eigh(x[..., :16]), "eigh"),
    "inv": (lambda m, x: torch.linalg.inv(x[..., :16]), "inv"),
    "solve": (lambda m, x: torch.linalg.solve(x[..., :16], x[..., 16:]), "solve"),
    "multinomial": (lambda m, x: torch.multinomial(x[0, 0], 2), "multinomial"),
    "synchronize": (lambda m, x: torch.cuda.synchronize(), "torch.cuda.synchronize"),
    "empty_cache": (lambda m, x: torch.cuda.empty_cache(), "torch.cuda.empty_cache"),
    "pin_memory": (lambda m, x: torch.empty(4, device=x.device, pin_memory=True), "pin_memory"),
}

GOOD: dict[str, Callable[[Step, Tensor], object]] = {
    "nothing": lambda m, x: x,
    "conv": lambda m, x: m.conv(x),
    "buffer": lambda m, x: x * m.scale,
    "indexed by a buffer": lambda m, x: x[:, m.order],
    "index_select": lambda m, x: x.index_select(1, m.order),
    "gather": lambda m, x: x.gather(1, m.order.view(1, 3, 1, 1).expand_as(x)),
    "slices": lambda m, x: x[:, :, ::2, 1:-1] * x[..., None, 0, 0:1, 1:31],
    "flip": lambda m, x: x.flip(-1),
    "to its own device": lambda m, x: x * torch.arange(32, device=x.device).to(x.device),
    "arange on its device": lambda m, x: x + torch.arange(32, device=x.device),
    "like": lambda m, x: x + torch.zeros_like(x) + x.new_ones(32) + torch.full_like(x, 0.5),
    "device by context": lambda m, x: x + with_device(x),
    "a number as a tensor": lambda m, x: x * torch.tensor(0.5),
    "a number's zeros": lambda m, x: x + torch.zeros(()),
    "where": lambda m, x: torch.where(x > 0.5, x, 0.0),
    "clamp": lambda m, x: x.clamp(0.1, 0.9),
    "masked_fill": lambda m, x: x.masked_fill(x > 0.5, 0.0),
    "mask takes a number": lambda m, x: set_zero(x, x > 0.5, 0.0),
    "slice takes a number": lambda m, x: x.clone().__setitem__((0, 1), 0.5),
    "index_put by a buffer": lambda m, x: x.index_put((m.order.new_zeros(1),), x[:1]),
    "one_hot of known classes": lambda m, x: F.one_hot((x * 3).long(), 4),
    "grid_sample": lambda m, x: F.grid_sample(
        x,
        F.affine_grid(x.new_ones(x.shape[0], 2, 3), list(x.shape), align_corners=False),
        align_corners=False,
    ),
    "interpolate": lambda m, x: F.interpolate(x[..., ::2, ::2], scale_factor=2, mode="bicubic"),
    "attention": lambda m, x: F.scaled_dot_product_attention(x, x, x),
    "fft": lambda m, x: torch.fft.irfft2(torch.fft.rfft2(x)),
    "norms": lambda m, x: F.instance_norm(F.layer_norm(F.group_norm(x, 3), x.shape[-1:])),
    "sort": lambda m, x: x.sort(-1).values + x.topk(1, -1).values + x.median(-1, True).values,
    "cumsum": lambda m, x: x.cumsum(-1) / x.cumsum(-1).amax(-1, keepdim=True),
    "searchsorted": lambda m, x: torch.searchsorted(x[0, 0, 0].contiguous(), x),
    "einsum": lambda m, x: torch.einsum("bchw,dc->bdhw", x, m.conv.weight[:, :, 0, 0]),
    "unfold": lambda m, x: F.unfold(x, 3, padding=1),
    "unbind": lambda m, x: torch.stack([row * 2 for row in x]),
    "shapes": lambda m, x: x * (x.shape[-1] / 32) * len(x) if x.numel() > 1 else x,
    "bfloat16": lambda m, x: x.to(torch.bfloat16).float(),
    "autocast": lambda m, x: with_autocast(m, x),
    "a grid kept from the first frame": lazily,
    "cuda by name": lambda m, x: x.to("cuda") + torch.ones(32, device="cuda") + x.cuda(),
    "scatter": lambda m, x: x.scatter(1, m.order.view(1, 3, 1, 1).expand_as(x), x),
    "repeat_interleave by a number": lambda m, x: x[..., ::2].repeat_interleave(2, -1),
    "pixel shuffle": lambda m, x: F.pixel_unshuffle(x, 2),
    "complex": lambda m, x: torch.view_as_real(torch.polar(x, x)).sum(-1),
}


def with_device(x: Tensor) -> Tensor:
    with x.device:
        return torch.arange(32)


def with_autocast(step: Step, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type if x.device.type != "meta" else "cpu", torch.bfloat16):
        return step.conv(x).float()


@pytest.mark.parametrize("name", BAD)
def test_what_a_graph_refuses_is_named(name: str) -> None:
    step, operation = BAD[name]
    verdict = rehearse(as_avatar(Step(step)), SMALL, 2)
    assert not verdict.capturable
    assert operation in str(verdict.operation), verdict
    assert verdict.where and "test_rehearsal.py:" in verdict.where, verdict
    assert "\n" not in str(verdict)


@pytest.mark.parametrize("name", GOOD)
def test_what_a_graph_takes_passes(name: str) -> None:
    verdict = rehearse(as_avatar(Step(GOOD[name])), SMALL, 2)
    assert verdict.capturable, verdict
    assert verdict.warnings == ()


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


def test_random_numbers_are_a_warning_only() -> None:
    verdict = rehearse(as_avatar(Step(lambda m, x: x + torch.randn_like(x))), SMALL, 2)
    assert verdict.capturable
    assert len(verdict.warnings) == 1
    assert "random" in verdict.warnings[0]


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
