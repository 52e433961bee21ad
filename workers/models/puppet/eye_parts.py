"""A portrait's eyes, taken apart: what is behind the lids, and the lids as they are when shut."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.models.api import Tensors
from workers.models.puppet.eyes import LASHES, TERMS, WINDOW, Curves, curves_at
from workers.models.puppet.local import Frame
from workers.models.puppet.places import (
    BROW_EDGES,
    CHEEK_RINGS,
    CREASES,
    EYE_CORNERS,
    IRISES,
    LOWER_LIDS,
    UPPER_LIDS,
)
from workers.models.puppet.raster import blur, ramp, spread

RINGS, RINGS_FROM = 15, 0.95  # in an iris's radius as found; where its edge may be at the nearest
DRAWN = 1.1  # larger than the net's by this: no eye of flesh
EDGE = 0.03  # of brightness, below which that edge is not seen
PALE = torch.tensor([0.86, 0.84, 0.82])  # an eyeball of which nothing is seen


def prepare(picture: Tensor, points: Tensor) -> Tensors:
    """picture (3, 512, 512), points (478, 3) in its pixels. For both eyes, as seen from the left:

    eye_frames (2, 5); eye_curves (2, 5, TERMS), see `eyes.curves_at`; half precision:
    eye_balls (2, 3, high, wide); eye_irises, eye_lids (2, 4, high, wide), colours times alpha,
    alpha.
    """
    frames = [_frame(points, side) for side in (0, 1)]
    terms = [_terms(points, side, frame) for side, frame in enumerate(frames)]
    skins = [WINDOW.cut(picture, frame) for frame in frames]
    irises = [
        frame.points(points[first : first + 5, :2])
        for first, frame in zip(IRISES, frames, strict=True)
    ]
    local = WINDOW.places()
    both = curves_at(torch.stack(terms), local[..., 0].expand(2, -1, -1))
    curves = [Curves(*(height[side] for height in both)) for side in (0, 1)]
    growth = _growth(
        torch.stack([_rises(*it, local) for it in zip(skins, curves, irises, strict=True)])
    )
    balls, discs, lids = [], [], []
    for skin, curve, iris in zip(skins, curves, irises, strict=True):
        ball, disc = _behind(skin, local, curve, iris[0], _radius(iris) * growth, growth > DRAWN)
        balls.append(ball)
        discs.append(disc)
        lids.append(_lid(skin, local, curve))
    return {
        "eye_frames": torch.stack([frame.row for frame in frames]),
        "eye_curves": torch.stack(terms),
        "eye_balls": torch.stack(balls).half(),
        "eye_irises": torch.stack(discs).half(),
        "eye_lids": torch.stack(lids).half(),
    }


def _frame(points: Tensor, side: int) -> Frame:
    corners = points[list(EYE_CORNERS[side]), :2]
    left, right = corners if side == 0 else corners.flip(0)
    return Frame.between(left, right, (left + right) / 2)


def _terms(points: Tensor, side: int, frame: Frame) -> Tensor:
    """(5, TERMS): the polynomials nearest to the points on each curve."""
    found = []
    for number, places in enumerate((UPPER_LIDS, LOWER_LIDS, CREASES, CHEEK_RINGS, BROW_EDGES)):
        s, h = frame.points(points[list(places[side]), :2]).double().unbind(1)
        terms = torch.stack([s**power for power in range(TERMS)], 1)
        if number < 2:
            terms = terms * (1 - 4 * s * s).clamp(min=0.05)[:, None]
        else:  # five points, and a polynomial that must not swing beyond them
            terms[:, 3] = 0
        solution = torch.linalg.lstsq(terms, h[:, None], driver="gelsd").solution
        found.append(solution[:, 0].float())
    return torch.stack(found)


# ------------------------------------------------------------------- eyeball


def _open(local: Tensor, curves: Curves) -> Tensor:
    """Where nothing but the eyeball is seen."""
    s, h = local[..., 0], local[..., 1]
    return (h > curves.upper + 0.045) & (h < curves.lower - 0.035) & (s.abs() < 0.46)


def _radius(iris: Tensor) -> float:
    return float((iris[1:] - iris[0]).norm(dim=1).mean())


def _growth(rises: Tensor) -> float:
    """By how much the irises are larger than the net says: it knows those of people."""
    steps = RINGS_FROM + torch.arange(rises.shape[1]) / RINGS
    likely = rises.mean(0) * torch.exp(-(((steps - 1.1) / 0.4).square()))
    return float(steps[int(likely.argmax())]) if float(likely.max()) > EDGE else 1.03


def _rises(skin: Tensor, curves: Curves, iris: Tensor, local: Tensor) -> Tensor:
    """How much lighter the picture turns at each ring beside the iris's middle."""
    off = local - iris[0]
    seen = _open(local, curves) & (off[..., 1].abs() < 0.7 * off[..., 0].abs())
    last = 2 * RINGS
    ring = (off.norm(dim=-1).flatten() / _radius(iris) * RINGS).long().clamp(max=last)
    beside = seen.float().flatten()
    weight = torch.zeros(last + 1).index_add(0, ring, beside)[:last]
    light = torch.zeros(last + 1).index_add(0, ring, skin.mean(0).flatten() * beside)[:last]
    means = light / weight.clamp(min=1)
    first = round(RINGS_FROM * RINGS)
    inner, outer = slice(first - 2, last - 3), slice(first + 1, last)
    known = (weight[inner] > 4) & (weight[outer] > 4)
    return torch.where(known, means[outer] - means[inner], 0.0)


def _behind(
    skin: Tensor, local: Tensor, curves: Curves, middle: Tensor, radius: float, drawn: bool
) -> tuple[Tensor, Tensor]:
    """The eyeball without its iris, and the iris, completed where the lids hid it."""
    away = (local - middle).norm(dim=-1)
    open_ = _open(local, curves)
    light = skin.mean(0)
    white = open_ & (away > radius * 1.22)
    if drawn and bool(white.any()):  # an outline around the iris, lashes before the white
        white &= light > 0.72 * light[white].quantile(0.6)
    enough = int(white.sum()) >= 20  # else an eye that is nearly shut, or all iris
    colour = skin[:, white].median(1).values if enough else PALE * light.amax().clamp(0.3, 1)
    known = white.float()
    ball = spread(skin, known, 0.07 * WINDOW.texels, colour)
    ball = ball + (skin - ball) * blur(known[None], 0.008 * WINDOW.texels) * known
    return ball, _iris(skin, local, middle, radius, away, open_)


def _iris(
    skin: Tensor, local: Tensor, middle: Tensor, radius: float, away: Tensor, open_: Tensor
) -> Tensor:
    seen = (open_ & (away < radius * 1.18)).float()
    # Rings of one colour, from what is seen of each; then the seen half, mirrored; then itself.
    rings = (away / radius * 19).long().clamp(max=23).flatten()
    weight = torch.zeros(24).index_add(0, rings, seen.flatten() + 1e-4)
    sums = torch.zeros(3, 24).index_add(1, rings, (skin * seen).flatten(1))
    whole = (skin * seen).sum((1, 2)) / seen.sum().clamp(min=1)
    profile = (sums + 1e-4 * whole[:, None]) / weight
    profile = blur(profile[:, None], 1.0)[:, 0]
    disc = profile[:, rings].reshape(skin.shape)
    below = torch.stack([local[..., 0], 2 * middle[1] - local[..., 1]], -1)
    for places in (2 * middle - local, below):
        mirrored = WINDOW.look_up(torch.cat([skin, seen[None]]), *places.unbind(-1))
        disc = disc + (mirrored[:3] - disc) * ramp((mirrored[3] - 0.9) / 0.1)
    disc = disc + (skin - disc) * blur(seen[None], 0.012 * WINDOW.texels) * seen
    alpha = ramp((radius * 1.14 - away) / (radius * 0.14))[None]
    return torch.cat([disc * alpha, alpha])


# ----------------------------------------------------------------------- lid


def _lid(skin: Tensor, local: Tensor, curves: Curves) -> Tensor:
    """The upper lid, shut: clean skin, with the portrait's own lashes."""
    s, h = local[..., 0], local[..., 1]
    shut = curves.shut

    def at(height: Tensor) -> Tensor:
        return WINDOW.look_up(skin, s.clamp(-0.5, 0.5), height)

    edge = blur(at(curves.crease), 0.03 * WINDOW.texels)
    share = ((h - curves.crease) / (shut - curves.crease).clamp(min=0.05)).clamp(0, 1)
    painted = edge + (_skin_colour(skin, local, curves) - edge) * ramp(share / 0.45)
    # An eyeball is under it: lightest in its middle, darker towards the lashes.
    painted = painted * (1 + 0.06 * (1 - 4 * (share - 0.5).square()) - 0.10 * ramp(share * 2 - 1))
    # The skin's grain, from under the eye, upside down.
    mirror = at(curves.cheek + 0.05 + (shut - h).clamp(0, 0.3))
    painted = painted + (mirror - blur(mirror, 0.03 * WINDOW.texels)).clamp(-0.06, 0.06)
    strip = at(curves.upper + (h - shut).clamp(max=-0.01))  # the portrait's own, as a whole
    painted = painted + (strip - painted) * ramp((h - shut + LASHES) / (0.6 * LASHES))
    line = torch.exp(-((h - shut) / 0.025).square()) * (1 - 4 * s * s).clamp(0, 1).sqrt()
    painted = painted + (_lash_colour(skin, local, curves) - painted) * (0.7 * line)
    alpha = ramp((h - curves.crease + 0.06) / 0.10) * ramp((0.55 - s.abs()) / 0.20)
    return torch.cat([painted.clamp(0, 1) * alpha, alpha[None]])


def _skin_colour(skin: Tensor, local: Tensor, curves: Curves) -> Tensor:
    """Of what lies above the crease, on the lid and under the eye, neither the darkest, which may
    be a shadow or lashes, nor the lightest. Smooth along the eye."""
    s = local[..., 0].clamp(-0.5, 0.5)
    upper, crease, cheek, brow = curves.upper, curves.crease, curves.cheek, curves.brow
    three = []
    for heights in (
        [crease + (brow - crease) * share for share in (0.1, 0.2, 0.3)],
        [crease + (upper - crease) * share for share in (0.3, 0.45, 0.6)],
        [cheek + step for step in (-0.04, 0.0, 0.04)],
    ):
        seen = torch.stack([WINDOW.look_up(skin, s, height) for height in heights])
        three.append(blur(seen.median(0).values, 0.1 * WINDOW.texels))
    middling = torch.stack([it.mean(0) for it in three]).median(0).indices
    chosen = middling[None, None].expand(1, 3, -1, -1)
    return blur(torch.stack(three).gather(0, chosen)[0], 0.08 * WINDOW.texels)


def _lash_colour(skin: Tensor, local: Tensor, curves: Curves) -> Tensor:
    """(3, 1, 1): of the darkest that is along the upper lid's edge."""
    edge = ((local[..., 1] - curves.upper).abs() < 0.04) & (local[..., 0].abs() < 0.42)
    light = skin.mean(0)
    dark = edge & (light <= light[edge].quantile(0.15))
    return skin[:, dark].median(1).values[:, None, None]
