"""The drawn look: what it promises to any picture, told by numbers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from workers.models.toon import Toon

TIMING = """
import time, torch
from workers.models.toon import Toon
torch.set_num_threads(1)
toon, one, frame = Toon(), torch.ones(1), torch.rand(1, 3, 256, 256)
taken = []
with torch.inference_mode():
    for _ in range(40):
        began = time.perf_counter()
        toon(frame, {}, {}, {"ink": one, "colour": one}, one)
        taken.append(time.perf_counter() - began)
print(1000 * sorted(taken)[8])
"""


def draw(frames: Tensor, ink: float = 1.0, colour: float = 1.0) -> Tensor:
    rows = torch.ones(len(frames))
    controls = {"ink": rows * ink, "colour": rows * colour}
    with torch.inference_mode():
        drawing, state = Toon()(frames, {}, {}, controls, rows)
    assert state == {}
    assert isinstance(drawing, Tensor)
    return drawing


def scene(height: int = 128, width: int = 160) -> Tensor:
    """A bright disc with a gradient on a darker, bluish ground, (1, 3, H, W)."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-width / height, width / height, width)[None]
    disc = ((x * x + y * y) < 0.4).float()
    light = 0.7 + 0.2 * x
    ground = torch.stack([0.15 + 0 * light, 0.2 + 0 * light, 0.4 + 0 * light])
    return (disc * torch.stack([light, 0.8 * light, 0.6 * light]) + (1 - disc) * ground)[None]


def light_of(frames: Tensor) -> Tensor:
    return (frames * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)


def chroma_of(frames: Tensor) -> Tensor:
    return (frames.amax(1) - frames.amin(1)).mean()


@pytest.mark.parametrize("size", [(16, 16), (96, 64), (128, 160), (360, 640)])
def test_every_geometry_gives_a_finite_picture_of_its_shape(size: tuple[int, int]) -> None:
    drawing = draw(torch.rand(2, 3, *size))
    assert drawing.shape == (2, 3, *size)
    assert drawing.dtype == torch.float32
    assert drawing.isfinite().all()
    assert drawing.min() >= 0
    assert drawing.max() <= 1


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_flat_picture_stays_flat(value: float) -> None:
    drawing = draw(torch.full((1, 3, 64, 64), value))
    assert drawing.isfinite().all()
    assert drawing.std((2, 3)).max() < 1e-3


def test_rows_do_not_see_each_other() -> None:
    pictures = torch.cat([scene(), scene().flip(1), torch.rand(1, 3, 128, 160)])
    together = draw(pictures)
    for row in range(3):
        assert torch.allclose(draw(pictures[row : row + 1])[0], together[row], atol=1e-5)


def test_an_edge_gets_a_dark_line_and_flat_parts_get_none() -> None:
    inked, plain = draw(scene()), draw(scene(), ink=0.0)
    darker = (light_of(plain) - light_of(inked))[0]
    y = torch.linspace(-1, 1, 128)[:, None]
    x = torch.linspace(-1.25, 1.25, 160)[None]
    distance = ((x * x + y * y).sqrt() - 0.4**0.5).abs()
    assert darker[distance < 0.03].amax() > 0.15
    assert darker[distance > 0.15].abs().amax() < 0.02


def test_a_gradient_becomes_a_few_tones() -> None:
    ramp = torch.linspace(0.1, 0.9, 160).expand(1, 3, 64, 160).contiguous()
    slope = light_of(draw(ramp))[0, 32].diff().abs()
    steep, flat = slope.quantile(0.95), slope.quantile(0.4)
    assert steep > 2 * flat


def test_colour_is_richer_and_goes_by_its_control() -> None:
    grey, normal, strong = (chroma_of(draw(scene(), colour=c)) for c in (0.0, 1.0, 2.0))
    assert grey < 0.05
    assert normal > chroma_of(scene())
    assert strong > normal


def test_a_dark_picture_is_lifted() -> None:
    dark = scene() * 0.3
    assert light_of(draw(dark)).mean() > 1.3 * light_of(dark).mean()


def test_noise_does_not_flicker_more_than_it_came() -> None:
    torch.manual_seed(0)
    clean = scene()
    noisy = [(clean + torch.randn_like(clean) * 0.03).clamp(0, 1) for _ in range(2)]
    came = (noisy[0] - noisy[1]).square().mean().sqrt()
    left = (draw(noisy[0]) - draw(noisy[1])).square().mean().sqrt()
    assert left < 0.8 * came


def test_the_same_frame_gives_the_same_picture() -> None:
    assert torch.equal(draw(scene()), draw(scene()))


def test_a_frame_of_256_takes_at_most_15_ms_on_one_thread() -> None:
    # As a worker runs it: without these, freed pages go back to the kernel after each operation.
    # The fifth fastest of forty: other tests share these cores.
    settings = {
        "MALLOC_TRIM_THRESHOLD_": "1000000000",
        "MALLOC_MMAP_THRESHOLD_": "1000000000",
    }
    said = subprocess.run(
        [sys.executable, "-c", TIMING],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(said.stdout) <= 15
