"""The place a portrait was taken at, with nobody there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

APART = 9  # px of 512 that are kept from the person: hair, and light that spills, is no background
SEEN = 0.02  # of the matte: less than this is background
HARDLY = 1e-6  # how much the person's own colours count: where nothing else is known, they do
SWEEPS = 6  # of smoothing a level, on the way down
FINE = 3  # px: what is smaller is grain


def plate(portrait: Tensor, matte: Tensor) -> Tensor:
    """portrait (3 or more, H, W) in [0, 1], matte (H, W) → (3, H, W): the background, whole.

    Where the person was, it goes on as smoothly as it can, with the grain of the rest. Where
    nothing is seen of it, it is the picture's mean.
    """
    picture = portrait[None, :3].float()
    person = F.max_pool2d(matte[None, None].float(), 2 * APART + 1, 1, APART)
    known = (person < SEEN).float()
    trust = known.clamp(min=HARDLY)
    whole = torch.where(known > 0, picture, _filled(picture * trust, trust))
    kept = _blurred(known, APART)  # so that nothing begins at a line
    return torch.lerp(whole + _grain(picture, known), whole, kept)[0].clamp(0, 1)


def _filled(sums: Tensor, weights: Tensor) -> Tensor:
    """Each pixel without weight between those that have some: half as fine first (pull-push)."""
    if max(sums.shape[-2:]) == 1:
        return sums / weights
    size = sums.shape[-2:]
    rows, columns = (max(1, (n + 1) // 2) for n in size)
    half = [F.adaptive_avg_pool2d(it, (rows, columns)) for it in (sums, weights)]
    coarse = F.interpolate(_filled(*half), size=size, mode="bilinear")
    own = sums / weights
    share = weights.clamp(max=1)
    found = torch.lerp(coarse, own, share)
    for _ in range(SWEEPS):  # towards the smoothest surface that meets what is known
        around = F.avg_pool2d(F.pad(found, (1, 1, 1, 1), mode="replicate"), 3, 1)
        found = torch.lerp(around, own, share)
    return found


def _grain(picture: Tensor, known: Tensor) -> Tensor:
    """Noise, as strong as what is fine in the background, and the same each time."""
    fine = picture - _blurred(picture, FINE)
    # The median, not the mean: edges of things are no grain.
    seen = fine.abs().mean(1)[known[:, 0] > 0]
    strength = float(seen.median()) / 0.6745 if len(seen) else 0.0
    dice = torch.Generator().manual_seed(0)
    noise = _blurred(torch.randn(1, 1, *picture.shape[-2:], generator=dice), 1)
    return noise / noise.std() * min(strength, 0.03)


def _blurred(x: Tensor, reach: int) -> Tensor:
    return F.avg_pool2d(F.pad(x, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
