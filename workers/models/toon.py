"""A drawn look, ink lines over flat washes, from classical image operations alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from workers.models.api import AvatarModel, Control, Tensors

TONES = 6  # levels of the wash
TONE_SHARPNESS = 8.0  # of the step between two levels: soft, so that noise does not flicker
LINE_CONTRAST = 0.037  # relative to the light around it, where a line is half as dark as ink
LINE_SHARPNESS = 105.0
LINE_STEPS = 3  # samples along a line, each way
INK = (0.09, 0.07, 0.12)
PAPER = (1.0, 0.985, 0.955)


class Toon(AvatarModel):
    """No weights, no state: the same frame gives the same picture.

    Three classics: a Kuwahara filter of eight soft sectors flattens the colour (Papari et al.,
    "Artistic edge and corner enhancing smoothing", 2007), a difference of Gaussians smoothed along
    the edge tangent draws the lines (Kang et al., "Coherent line drawing", 2007), soft steps
    quantise the tone (Winnemöller et al., "Real-time video abstraction", 2006).
    """

    controls: ClassVar[Mapping[str, Control]] = {
        "ink": Control(low=0.0, high=2.0, default=1.0),
        "colour": Control(low=0.0, high=2.0, default=1.0),
    }

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        """frames (B, 3, H, W) in [0, 1], H and W even → the drawing, and no state."""
        # Strokes grow more slowly than the picture does, as a pen's do on a larger sheet.
        scale = math.sqrt(min(frames.shape[-2:]) / 256)
        calm = _blur(frames, _gaussian(0.7 * scale))
        lines = _lines(_luminance(calm), scale) * controls["ink"].view(-1, 1, 1, 1)
        washes = _washes(_flatten(calm, scale), controls["colour"].view(-1, 1, 1, 1))
        return _over(washes, lines.clamp(0, 1)).clamp(0, 1), state


def _lines(light: Tensor, scale: float) -> Tensor:
    """How much ink lies where, in [0, 1], from the luminance (B, 1, H, W)."""
    inner = _blur(light, _gaussian(0.9 * scale))
    outer = _blur(inner, _gaussian(1.15 * scale))
    # Divided by the light around: a line in the shade counts as one in the sun does.
    contrast = (inner - outer) / (outer + 0.12)
    along = _smooth_along(contrast, *_tangent(light, scale), step=1.3 * scale)
    return torch.sigmoid((-along - LINE_CONTRAST) * LINE_SHARPNESS)


def _tangent(light: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The direction (x, y) of the edges, (B, 1, H, W) each, of length one.

    It is the structure tensor's lesser eigenvector; sines by half-angles, no atan2.
    """
    padded = F.pad(light, (1, 1, 1, 1), mode="replicate")
    down = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    gx = down[..., 2:] - down[..., :-2]
    gy = across[:, :, 2:] - across[:, :, :-2]
    tensor = torch.cat([gx * gx - gy * gy, 2 * gx * gy], 1)
    half = (
        tensor[:, :, ::2, ::2]
        + tensor[:, :, 1::2, ::2]
        + tensor[:, :, ::2, 1::2]
        + tensor[:, :, 1::2, 1::2]
    )
    tensor = F.interpolate(
        _blur(half, _gaussian(1.6 * scale)), size=light.shape[-2:], mode="bilinear"
    )
    difference, mixed = tensor[:, 0:1], tensor[:, 1:2]
    cosine = difference / torch.sqrt(difference * difference + mixed * mixed + 1e-9)
    normal_x = torch.sqrt(((1 + cosine) * 0.5).clamp(min=0))
    normal_y = torch.copysign(torch.sqrt(((1 - cosine) * 0.5).clamp(min=0)), mixed)
    return -normal_y, normal_x


def _smooth_along(values: Tensor, x: Tensor, y: Tensor, step: float) -> Tensor:
    """A weighted mean of samples on the tangent (x, y), `step` pixels apart."""
    height, width = values.shape[-2:]
    columns = _centres(width, values).view(1, 1, width)
    rows = _centres(height, values).view(1, height, 1)
    dx, dy = x[:, 0] * (2 * step / width), y[:, 0] * (2 * step / height)
    total, weights = values, 1.0
    for k in range(1, LINE_STEPS + 1):
        weight = math.exp(-0.5 * (1.6 * k / LINE_STEPS) ** 2)
        for way in (k, -k):
            grid = torch.stack([columns + dx * way, rows + dy * way], -1)
            sample = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
            total = total + sample * weight
            weights += weight
    return total / weights


def _centres(count: int, like: Tensor) -> Tensor:
    """The pixels' centres in grid_sample's coordinates, from -1 to 1."""
    return (torch.arange(count, device=like.device, dtype=like.dtype) * 2 + 1) / count - 1


def _flatten(colours: Tensor, scale: float) -> Tensor:
    """Each pixel becomes the mean of its calmest neighbourhoods, so that edges stay crisp."""
    height, width = colours.shape[-2:]
    reach = max(1, round(2 * scale))
    slant = max(1, round(0.7 * reach))
    light = _luminance(colours)
    means = _blur(torch.cat([colours, light, light * light], 1), _gaussian(reach, reach))
    padded = F.pad(means, (reach, reach, reach, reach), mode="replicate")
    total, weights = torch.zeros_like(colours), torch.zeros_like(light)
    for dx, dy in (
        *((reach, 0), (-reach, 0), (0, reach), (0, -reach)),
        *((slant, slant), (slant, -slant), (-slant, slant), (-slant, -slant)),
    ):
        top, left = reach + dy, reach + dx
        sector = padded[:, :, top : top + height, left : left + width]
        variance = (sector[:, 4:5] - sector[:, 3:4] * sector[:, 3:4]).clamp(min=0)
        calm = 1 / (variance * 2000 + 1)
        weight = calm * calm
        weight = weight * weight
        total = total + sector[:, :3] * weight
        weights = weights + weight
    return total / weights


def _washes(colours: Tensor, strength: Tensor) -> Tensor:
    """The colours in a few tones and richer, on paper that is not quite white."""
    light = _luminance(colours)
    lift = _exposure(light)
    bright = light * lift / (1 + (lift - 1) * light)
    tone = light + (_steps(bright) - light)
    chroma = (colours - light) * ((bright + 0.05) / (light + 0.05))
    # Pale colours gain most; what is rich already is not driven out of the gamut.
    spread = chroma.amax(1, keepdim=True) - chroma.amin(1, keepdim=True)
    richer = 1 + 0.6 / (1 + 2.5 * spread)
    return tone + chroma * (richer * strength)


def _exposure(light: Tensor) -> Tensor:
    """How much to lift a dark picture, (B, 1, 1, 1), from 1 to 2.4, towards a mean of 0.5."""
    mean = light.mean((1, 2, 3), keepdim=True).clamp(0.05, 0.95)
    return ((1 - mean) / mean).clamp(1.0, 2.4)


def _steps(light: Tensor) -> Tensor:
    """Tones in soft steps, with a little of the gradient between them kept."""
    scaled = light.clamp(0, 1) * TONES
    level = torch.floor(scaled)
    low = 1 / (1 + math.exp(TONE_SHARPNESS / 2))
    step = (torch.sigmoid((scaled - level - 0.5) * TONE_SHARPNESS) - low) / (1 - 2 * low)
    return light + ((level + step) / TONES - light) * 0.8


def _over(washes: Tensor, lines: Tensor) -> Tensor:
    """Ink over the washes, washes over the paper."""
    ink, paper = (
        torch.cat([torch.full_like(lines, part) for part in colour], 1) for colour in (INK, PAPER)
    )
    painted = ink * 0.5 + washes * (paper - ink * 0.5)
    return painted + (ink - painted) * lines


def _luminance(colours: Tensor) -> Tensor:
    return colours[:, 0:1] * 0.299 + colours[:, 1:2] * 0.587 + colours[:, 2:3] * 0.114


def _gaussian(sigma: float, reach: int | None = None) -> list[float]:
    """The taps of a Gaussian, 2 × reach + 1 of them, whose sum is one."""
    reach = reach or max(1, math.ceil(2.2 * sigma))
    taps = [math.exp(-((i / sigma) ** 2) / 2) for i in range(-reach, reach + 1)]
    return [tap / sum(taps) for tap in taps]


def _blur(picture: Tensor, taps: Sequence[float]) -> Tensor:
    """Rows, then columns. Sums of shifted views: a third of a depthwise convolution's time."""
    reach = len(taps) // 2
    for dim, pad in ((-1, (reach, reach, 0, 0)), (-2, (0, 0, reach, reach))):
        length = picture.shape[dim]
        padded = F.pad(picture, pad, mode="replicate")
        picture = padded.narrow(dim, reach, length) * taps[reach]
        for i in range(reach):
            pair = padded.narrow(dim, i, length) + padded.narrow(dim, 2 * reach - i, length)
            picture = picture + pair * taps[i]
    return picture
