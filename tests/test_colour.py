"""workers.colour: two edges, one picture."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.colour import ColourEdge, SwscaleEdge, TensorEdge, edge_for
from workers.geometry import Geometry

Floats = NDArray[np.float64]

GEOMETRY = Geometry(96, 64)
SHAPE = (3, 3, GEOMETRY.height, GEOMETRY.width)


def edges(geometry: Geometry = GEOMETRY) -> tuple[ColourEdge, ColourEdge]:
    return TensorEdge(geometry), SwscaleEdge(geometry, 3)


def to_rgb(edge: ColourEdge, i420: Tensor, geometry: Geometry = GEOMETRY) -> Tensor:
    rgb = torch.full((len(i420), 3, geometry.height, geometry.width), torch.nan)
    edge.to_rgb(i420, rgb)
    return rgb


def to_i420(edge: ColourEdge, rgb: Tensor) -> Tensor:
    i420 = torch.full((len(rgb), rgb.shape[2] * 3 // 2, rgb.shape[3]), 7, dtype=torch.uint8)
    edge.to_i420(rgb, i420)
    return i420


def random_i420(geometry: Geometry = GEOMETRY) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (3, geometry.rows, geometry.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def natural_rgb(geometry: Geometry = GEOMETRY) -> Tensor:
    """Pictures with a photograph's spectrum: power falls with the square of the frequency."""
    random = np.random.default_rng(3)
    y = np.fft.fftfreq(geometry.height)[:, None]
    x = np.fft.fftfreq(geometry.width)[None, :]
    spectrum = 1 / np.maximum(np.hypot(x, y), 1 / geometry.width)
    white = np.fft.fft2(random.normal(size=(3, 3, geometry.height, geometry.width)))
    pictures = np.fft.ifft2(white * spectrum).real
    mixed = np.einsum("ij,bjhw->bihw", [[1, 0.3, 0], [1, 0, 0.1], [1, -0.3, 0.2]], pictures)
    scaled = 0.5 + 0.2 * mixed / mixed.std()
    return torch.from_numpy(scaled).float().clamp(0, 1)


def due_rgb(i420: Tensor) -> Floats:
    """BT.601-7 in double precision, the matrix written out: another way than the edge's."""
    rows, width = i420.shape[1:]
    height = rows * 2 // 3
    y = i420[:, :height].double().numpy()
    u, v = (
        plane.reshape(-1, height // 2, width // 2).double().numpy().repeat(2, 1).repeat(2, 2)
        for plane in i420[:, height:].reshape(len(i420), 2, -1).unbind(1)
    )
    y, u, v = (y - 16) * 1.164384, u - 128, v - 128
    rgb = np.stack((y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u), 1)
    return np.clip(rgb / 255, 0, 1)


def due_i420(rgb: Tensor) -> Floats:
    r, g, b = np.clip(rgb.double().numpy(), 0, 1).transpose(1, 0, 2, 3)
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    u = 128 - 37.797 * r - 74.203 * g + 112.0 * b
    v = 128 + 112.0 * r - 93.786 * g - 18.214 * b

    def mean(plane: Floats) -> Floats:
        count, height, width = plane.shape
        return plane.reshape(count, height // 2, 2, width // 2, 2).mean((2, 4))

    flat = [plane.reshape(len(rgb), -1) for plane in (y, mean(u), mean(v))]
    return np.concatenate(flat, 1).reshape(len(rgb), rgb.shape[2] * 3 // 2, rgb.shape[3])


def apart(one: Tensor, other: Tensor | Floats) -> float:
    return float(np.abs(one.double().numpy() - np.asarray(other, np.float64)).max())


def test_the_tensor_edge_follows_the_recommendation() -> None:
    i420 = random_i420()
    assert apart(to_rgb(TensorEdge(GEOMETRY), i420), due_rgb(i420)) < 1e-4
    rgb = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))
    assert apart(to_i420(TensorEdge(GEOMETRY), rgb), due_i420(rgb)) <= 0.51


@pytest.mark.parametrize("size", [(16, 18), (34, 18), (96, 64), (256, 256)])
def test_both_edges_agree_on_random_pictures(size: tuple[int, int]) -> None:
    geometry = Geometry(*size)
    ours, theirs = edges(geometry)
    i420 = random_i420(geometry)
    assert apart(to_rgb(ours, i420, geometry), to_rgb(theirs, i420, geometry)) <= 2 / 255
    rgb = torch.rand((3, 3, geometry.height, geometry.width))
    assert apart(to_i420(ours, rgb), to_i420(theirs, rgb)) <= 2


def test_both_edges_agree_on_natural_pictures() -> None:
    ours, theirs = edges()
    rgb = natural_rgb()
    i420 = to_i420(ours, rgb)
    assert apart(i420, to_i420(theirs, rgb)) <= 2
    assert apart(to_rgb(ours, i420), to_rgb(theirs, i420)) <= 2 / 255


@pytest.mark.parametrize("which", [0, 1], ids=["tensor", "swscale"])
def test_a_picture_that_is_left_alone_comes_back_bit_for_bit(which: int) -> None:
    edge = edges()[which]
    i420 = to_i420(edge, natural_rgb() * 0.6 + 0.2)
    assert torch.equal(to_i420(edge, to_rgb(edge, i420)), i420)


@pytest.mark.parametrize("which", [0, 1], ids=["tensor", "swscale"])
def test_answers_beyond_the_range_are_clamped(which: int) -> None:
    edge = edges()[which]
    assert apart(to_i420(edge, torch.full(SHAPE, 7.0)), due_i420(torch.ones(SHAPE))) <= 1
    assert apart(to_i420(edge, torch.full(SHAPE, -7.0)), due_i420(torch.zeros(SHAPE))) <= 1


@pytest.mark.parametrize("which", [0, 1], ids=["tensor", "swscale"])
def test_answers_of_half_precision_and_of_any_layout_serve(which: int) -> None:
    edge = edges()[which]
    rgb = natural_rgb()
    due = to_i420(edge, rgb)
    assert apart(to_i420(edge, rgb.to(memory_format=torch.channels_last)), due) == 0
    assert apart(to_i420(edge, rgb.half()), due) <= 1


def test_without_pyav_the_tensor_edge_serves_a_cpu() -> None:
    code = """
import sys
sys.modules["av"] = None
import torch
from workers.colour import edge_for
from workers.geometry import Geometry
print(type(edge_for(torch.device("cpu"), Geometry(64, 64), 1)).__name__)
"""
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "TensorEdge"


def test_with_pyav_swscale_serves_a_cpu() -> None:
    assert isinstance(edge_for(torch.device("cpu"), GEOMETRY, 1), SwscaleEdge)
