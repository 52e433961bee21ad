"""Performers who are hard to follow, each made of a clip of one who is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from judging import OtherNet, clip, scaled
from torch import Tensor

from workers.models.face import mesh

SIDE = 256
COMES_S = 0.25  # until a face that came counts in full
GONE = 75  # frames: three seconds
WAY = 20  # frames of leaving and of coming back
SMALL = 60.0  # pixels across a face
CUT = 0.1  # of a face at the edge, that the edge cuts off


@dataclass(frozen=True, slots=True)
class Trouble:
    """frames: what the avatar sees; clean: the same moments without the trouble, (N, 3, H, W)."""

    frames: Tensor
    clean: Tensor
    judged: Tensor  # (N,) bool: where the mouth is compared


def begins_in_a_smile(judge: OtherNet) -> Trouble:
    return _plain(clip("cap12_edit", SIDE, 205, 140))


def begins_in_mid_speech(judge: OtherNet) -> Trouble:
    return _plain(clip("cap13_edit2", SIDE, 408, 90))


def leaves_and_comes_back(judge: OtherNet) -> Trouble:
    talk = clip("cap13_edit2", SIDE, 352, 30 + 2 * WAY + 60)
    before, leaves, comes, after = talk.split((30, WAY, WAY, 60))
    ways = [_slid(frame, round((n + 1) / WAY * SIDE)) for n, frame in enumerate(leaves)]
    back = [_slid(frame, round((1 - (n + 1) / WAY) * SIDE)) for n, frame in enumerate(comes)]
    nobody = ways[-1].expand(GONE, -1, -1, -1)
    frames = torch.cat([before, torch.stack(ways), nobody, torch.stack(back), after])
    clean = torch.cat([before, leaves, leaves[-1:].expand(GONE, -1, -1, -1), comes, after])
    judged = torch.ones(len(frames), dtype=torch.bool)
    start, end = len(before), len(frames) - len(after)
    judged[start : end + round(COMES_S * 25)] = False
    judged[:8] = False
    return Trouble(frames, clean, judged)


def at_the_edge(judge: OtherNet) -> Trouble:
    clean = clip("cap13_edit2", SIDE, 360, 90)
    points = judge(clean)
    left = float(points[..., 0].min())
    width = float(_widths(points).mean())
    frames = torch.stack([_slid(frame, -round(left + CUT * width)) for frame in clean])
    return _plain(frames, clean)


def small(judge: OtherNet) -> Trouble:
    clean = clip("cap13_edit2", SIDE, 360, 90)
    inner = round(SIDE * SMALL / float(_widths(judge(clean)).mean()))
    margin = (SIDE - inner) // 2
    pad = (margin, SIDE - inner - margin, margin, SIDE - inner - margin)
    shrunk = F.pad(scaled(clean, inner).float(), pad, mode="replicate").byte()
    return _plain(shrunk, clean)


def wears_glasses(judge: OtherNet) -> Trouble:
    clean = clip("cap13_edit2", SIDE, 360, 90)
    worn = [_with_glasses(*pair) for pair in zip(clean, judge(clean), strict=True)]
    return _plain(torch.stack(worn), clean)


TROUBLES: dict[str, Callable[[OtherNet], Trouble]] = {
    "begins in a smile": begins_in_a_smile,
    "begins in mid-speech": begins_in_mid_speech,
    "leaves and comes back": leaves_and_comes_back,
    "at the edge": at_the_edge,
    "60 pixels wide": small,
    "glasses": wears_glasses,
}


def _plain(frames: Tensor, clean: Tensor | None = None) -> Trouble:
    judged = torch.arange(len(frames)) >= 8  # from when the portrait follows in full
    return Trouble(frames, frames if clean is None else clean, judged)


def _slid(frame: Tensor, right: int) -> Tensor:
    """To the right by so many pixels; what comes in is the edge, going on."""
    columns = (torch.arange(frame.shape[-1]) - right).clamp(0, frame.shape[-1] - 1)
    return frame[..., columns]


def _widths(points: Tensor) -> Tensor:
    widths: Tensor = (points[:, mesh.LEFT_CHEEK] - points[:, mesh.RIGHT_CHEEK]).norm(dim=1)
    return widths


def _with_glasses(frame: Tensor, points: Tensor) -> Tensor:
    """Black rims, dim lenses with a light's reflection in each."""
    steps = torch.arange(frame.shape[-1]) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    picture = frame.float()
    for outer, inner in (
        (mesh.RIGHT_OUTER, mesh.RIGHT_INNER),
        (mesh.LEFT_OUTER, mesh.LEFT_INNER),
    ):
        (left, top), (right, bottom) = points[outer, :2], points[inner, :2]
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        wide = (points[outer] - points[inner]).norm() * 0.85
        across, down = (x - middle_x) / wide, (y - middle_y - 0.1 * wide) / (0.75 * wide)
        off = (across**4 + down**4) ** 0.25 - 1  # a rounded square
        lens = (0.5 - off * wide).clamp(0, 1)
        glare = (1 - ((across - down + 0.5).abs() / 0.25)).clamp(0, 1) * lens
        picture = picture * (1 - 0.15 * lens) + 60 * glare
        rim = (1.8 - (off * wide).abs()).clamp(0, 1)
        picture = picture * (1 - rim) + 20 * rim
    bridge = points[[mesh.RIGHT_INNER, mesh.LEFT_INNER], :2].mean(0)
    half = (points[mesh.RIGHT_INNER] - points[mesh.LEFT_INNER]).norm() / 3
    bar = ((x - bridge[0]).abs() < half) & ((y - bridge[1]).abs() < 1.2)
    return torch.where(bar, 20.0, picture).clamp(0, 255).byte()
