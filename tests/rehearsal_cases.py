"""The rehearsal's truth table: steps that a CUDA graph takes, and steps that it refuses.

`tests/test_rehearsal.py` holds the rehearsal to it on any machine, by what PyTorch documents
("CUDA Graphs", constraints); `scripts/gpu_check` captures each where there is a GPU. It needs
torch and numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        self.frames_seen = 0

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


def every_other(step: Step, x: Tensor) -> Tensor:
    step.frames_seen += 1
    return x.flip(-1) if step.frames_seen % 2 else x * 2


def ever_more(step: Step, x: Tensor) -> list[Tensor]:
    step.frames_seen += 1
    return [x * 2 for _ in range(step.frames_seen)]


def ever_less(step: Step, x: Tensor) -> list[Tensor]:
    step.frames_seen += 1
    return [x * 2 for _ in range(9 - step.frames_seen)]


def shrinking(step: Step, x: Tensor) -> Tensor:
    step.frames_seen += 1
    return x[..., step.frames_seen :] * 2


def counted(step: Step, x: Tensor) -> Tensor:
    step.frames_seen += 1
    return x * (1 / step.frames_seen)


def asserted(step: Step, x: Tensor) -> Tensor:
    assert x.amax() < 2
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
    "stream's synchronize": (
        lambda m, x: torch.cuda.Stream.synchronize(None),  # type: ignore[arg-type]  # no CUDA here
        "Stream.synchronize",
    ),
    "event's query": (
        lambda m, x: torch.cuda.Event.query(None),  # type: ignore[arg-type]
        "Event.query",
    ),
    "pinned": (lambda m, x: x.pin_memory(), "pin_memory"),
    "to cpu without waiting": (lambda m, x: x.to("cpu", non_blocking=True), ".to('cpu')"),
    "assert": (asserted, "if tensor"),
    "Python's max": (lambda m, x: max(x[0, 0, 0, 0], x[0, 0, 0, 1]), "if tensor"),
    "sorted": (lambda m, x: sorted(x[0, 0, 0]), "if tensor"),
    "is_nonzero": (lambda m, x: torch.is_nonzero(x.sum()), "is_nonzero"),
    "slice up to a tensor": (lambda m, x: x[..., : m.order[0]], "getitem"),
    "cholesky": (lambda m, x: torch.linalg.cholesky(x[..., :16] @ x[..., :16].mT), "cholesky"),
    "eig": (lambda m, x: torch.linalg.eig(x[..., :16]), "eig"),
    "histc without bounds": (lambda m, x: torch.histc(x, 8), "histc"),
    "every other frame": (every_other, ""),
    "ever more operations": (ever_more, "mul"),
    "ever fewer operations": (ever_less, "mul"),
    "ever smaller shapes": (shrinking, ""),
    "pin_memory": (lambda m, x: torch.empty(4, device=x.device, pin_memory=True), "pin_memory"),
}

GOOD: dict[str, Callable[[Step, Tensor], object]] = {
    "nothing": lambda m, x: x,
    "nothing but a sum": lambda m, x: x + x,
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
    "softmax": lambda m, x: x.softmax(-1) + x.log_softmax(1) + x.logsumexp(1, True),
    "quantile": lambda m, x: x - torch.quantile(x, 0.5, dim=-1, keepdim=True),
    "scatter_add": lambda m, x: x.scatter_add(1, m.order.view(1, 3, 1, 1).expand_as(x), x),
    "index_add": lambda m, x: x.index_add(1, m.order, x),
    "bucketize": lambda m, x: torch.bucketize(x, m.conv.bias.cumsum(0)),
    "histc with bounds": lambda m, x: torch.histc(x, 8, 0, 1),
    "roll and pad": lambda m, x: F.pad(x.roll(3, -1), (1, 1, 1, 1), mode="reflect"),
    "a number of its shape": lambda m, x: x / math.sqrt(x.shape[1]),
    "pixel shuffle": lambda m, x: F.pixel_unshuffle(x, 2),
    "complex": lambda m, x: torch.view_as_real(torch.polar(x, x)).sum(-1),
}


# legal, but unwise: (step, what the warning says)
UNWISE: dict[str, tuple[Callable[[Step, Tensor], object], str]] = {
    "randn_like": (lambda m, x: x + torch.randn_like(x), "random"),
    "rand on its device": (lambda m, x: x + torch.rand(32, device=x.device), "random"),
    "dropout": (lambda m, x: F.dropout(x, 0.5, training=True), "random"),
    "bernoulli": (lambda m, x: torch.bernoulli(x), "random"),
    "uniform_": (lambda m, x: x.clone().uniform_(), "random"),
    "normal": (lambda m, x: torch.normal(x, 1.0), "random"),
    "a number that moves on": (counted, "a number that mul is given"),
}


def with_device(x: Tensor) -> Tensor:
    with x.device:
        return torch.arange(32)


def with_autocast(step: Step, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type if x.device.type != "meta" else "cpu", torch.bfloat16):
        return step.conv(x).float()
