"""What is in a portrait's mouth, and how its lips part."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.models.api import Tensors
from workers.models.face.mesh import LOWER_LIP_EDGE, UPPER_LIP_EDGE
from workers.models.puppet.local import Frame
from workers.models.puppet.mouth import WINDOW
from workers.models.puppet.places import (
    ABOVE_LIP,
    BELOW_LIP,
    CHEEKS,
    LIP_CORNERS,
    MOUTH_CORNERS,
)
from workers.models.puppet.raster import blur, coverage, distance, inside, ramp, sample

OPEN = 0.05  # of the width: a portrait whose lips are farther apart shows teeth of its own
BRIGHT = 0.6  # of the cheeks' light, from which on what is seen there is teeth
TIP = 0.09  # how far the upper teeth come out below an upper lip at rest
ARCH, LOWER_ARCH = 0.46, 0.40  # half the widths of the rows of teeth

DEEP, FRONT = torch.tensor([0.17, 0.05, 0.055]), torch.tensor([0.40, 0.14, 0.14])
TOOTH, GUM = torch.tensor([1.0, 0.97, 0.92]), torch.tensor([0.66, 0.33, 0.34])
TONGUE = torch.tensor([0.66, 0.30, 0.31])


def prepare(picture: Tensor, points: Tensor) -> Tensors:
    """picture (3, 512, 512), points (478, 3) in its pixels.

    mouth_frame (5,); half precision: mouth_parts (11, high, wide): the cavity (3), the upper teeth
    (4), what goes with the jaw (4), colours times alpha, alpha. mouth_masks (4, high, wide): how
    much the upper lip's picture covers, how much it shades what is behind; the lower lip's.
    """
    right, left = points[list(LIP_CORNERS), :2]
    middle = points[[*UPPER_LIP_EDGE, *LOWER_LIP_EDGE], :2].mean(0)
    frame = Frame.between(right, left, middle)
    local = WINDOW.places()
    lips = frame.points(points[:, :2])
    skin, cheek = WINDOW.cut(picture, frame), _cheeks(picture, points)
    opening = _opening(skin, local, lips, cheek)
    return {
        "mouth_frame": frame.row,
        "mouth_parts": _parts(skin, local, lips, opening, _Light(cheek)).half(),
        "mouth_masks": _masks(local, lips, shut=opening is None).half(),
    }


class _Light:
    """What the portrait's light makes of a colour, as its cheeks show it."""

    def __init__(self, cheek: Tensor) -> None:
        self._strength = (cheek.mean() * 1.3).clamp(0.35, 1.0)
        self._tint = cheek / cheek.amax().clamp(min=1e-3)

    def on(self, colour: Tensor, tinted: float) -> Tensor:
        """(3,) → (3, 1, 1). tinted: how much of the light's own colour it takes."""
        return (colour * self._strength * (1 - tinted + tinted * self._tint))[:, None, None]


def _cheeks(picture: Tensor, points: Tensor) -> Tensor:
    """Their colour, (3,), where no beard grows."""
    around = points[list(CHEEKS), :2][None]
    colour: Tensor = sample(blur(picture, 2.0), around, "bilinear")[:, 0].median(1).values
    return colour


def _edges(lips: Tensor) -> tuple[Tensor, Tensor]:
    """The lips' inner edges, from corner to corner: (11, 2) each."""
    right, left = lips[[MOUTH_CORNERS[0]]], lips[[MOUTH_CORNERS[1]]]
    upper = torch.cat([right, lips[list(UPPER_LIP_EDGE)], left])
    lower = torch.cat([right, lips[list(LOWER_LIP_EDGE)], left])
    return upper, lower


def _opening(skin: Tensor, local: Tensor, lips: Tensor, cheek: Tensor) -> Tensor | None:
    """The polygon between lips that show teeth; None where they are shut, or show a dark line."""
    upper, lower = _edges(lips)
    middle = len(upper) // 2
    if float((lower[middle] - upper[middle]).norm()) <= OPEN:
        return None
    opening = torch.cat([upper, lower[1:-1].flip(0)])
    seen = skin[:, inside(local, opening)].mean(0)
    return opening if float(seen.quantile(0.8)) > BRIGHT * float(cheek.mean()) else None


# --------------------------------------------------------------------- masks


def _masks(local: Tensor, lips: Tensor, shut: bool) -> Tensor:
    upper, lower = _edges(lips)
    if shut:
        # Shut lips cover everything; the line between them goes with both.
        upper = lower = (upper + lower) / 2
    # A lip's own edge is soft and dark: it belongs to the lip.
    bend = torch.tensor([0.0, 0.008])
    masks = []
    for edge, beyond, depth in ((upper + bend, BELOW_LIP, 0.10), (lower - bend, ABOVE_LIP, 0.06)):
        ring = torch.cat([edge[:1], lips[list(beyond)], edge[-1:]])
        hidden = coverage(local, torch.cat([edge, ring.flip(0)[1:-1]]), soft=0.012)
        # At the ring both lips' pictures agree: it may be either.
        masks.append(1 - hidden * ramp(distance(local, ring) / 0.08))
        masks.append(torch.exp(-distance(local, edge) / depth))
    return torch.stack(masks)


# --------------------------------------------------------------------- parts


def _parts(
    skin: Tensor, local: Tensor, lips: Tensor, opening: Tensor | None, light: _Light
) -> Tensor:
    upper, lower = _edges(lips)
    s, t = local.unbind(-1)
    below = t - upper[len(upper) // 2, 1]
    gum = light.on(GUM, 1.0)
    if opening is not None:
        seen = skin[:, inside(local, opening)]
        bright = seen.mean(0)
        tooth = seen[:, bright >= bright.quantile(0.6)].median(1).values[:, None, None]
        teeth = _own_teeth(skin, local, opening, gum)
    else:
        tooth = light.on(TOOTH, 0.35)
        teeth = _teeth(s, below, tooth, gum)
    jaw = _jaw(s, t - lower[len(lower) // 2, 1], tooth * 0.75, light.on(TONGUE, 0.6))
    return torch.cat([_cavity(s, below, light), teeth, jaw]).clamp(0, 1)


def _cavity(s: Tensor, below: Tensor, light: _Light) -> Tensor:
    """Dark, less so towards the front below, where the light comes in."""
    deep, front = light.on(DEEP, 0.0), light.on(FRONT, 0.0)
    share = ramp((below - 0.15) / 0.7) * torch.exp(-((s / 0.38) ** 4)) * 0.8
    return deep + (front - deep) * share


def _own_teeth(skin: Tensor, local: Tensor, opening: Tensor, gum: Tensor) -> Tensor:
    """What the portrait shows between its lips, and gums above, should the lip go up."""
    s, t = local.unbind(-1)
    within = inside(local, opening)
    shown = (blur(within.float()[None], 1.5) * 2 - 1).clamp(min=0)
    raised = inside(local + torch.tensor([0.0, 0.14]), opening) & (s.abs() < 0.4)
    above = blur((raised | within).float()[None], 2.0) * ramp((0.40 - s.abs()) / 0.15)
    above = (1 - shown) * above * (t < opening[:, 1].mean())
    return torch.cat([skin * shown + gum * 0.8 * above, shown + above])


def _teeth(s: Tensor, below: Tensor, tooth: Tensor, gum: Tensor) -> Tensor:
    """The upper row on its arch: as one sees it, narrower and darker to the sides."""
    arch = (s / ARCH).clamp(-0.999, 0.999)
    between, number = _row(arch, 4.5)
    # The second from the middle is shorter, corners are round, and the row smiles a little.
    length = TIP * (1 - 0.10 * torch.exp(-((number - 1.5) / 0.4).square()))
    edge = length - 0.016 * torch.exp(-((between / 0.13) ** 2)) - 0.14 * s.square()
    alpha = ramp((edge - below) / 0.02) * ramp((ARCH - 0.005 - s.abs()) / 0.06)
    root = ramp((TIP - 0.21 + 0.05 * (1 - between * 2) - below) / 0.03)
    colour = tooth * (1 - 0.16 * torch.exp(-((between / 0.06) ** 2)))
    colour = colour * (0.94 + 0.06 * ramp(between / 0.4))
    colour = colour + (gum - colour) * root
    colour = colour * (1.02 - 0.85 * arch.abs() ** 2.8).clamp(0.12, 1)
    colour = colour * (1 - 0.25 * torch.exp(-below.clamp(min=0) / 0.04))  # the lip's shade
    return torch.cat([colour * alpha, alpha[None]])


def _jaw(s: Tensor, below: Tensor, tooth: Tensor, red: Tensor) -> Tensor:
    """The tongue, and before it the lower teeth; `below`: the lower lip's edge."""
    hump = 1 - ((s / 0.33).square() + ((below - 0.10) / 0.26).square())
    tongue = ramp(hump / 0.35)
    colour = red * (1 - 0.12 * torch.exp(-((s / 0.03) ** 2))) * (0.62 + 0.38 * ramp(hump / 0.9))
    arch = (s / LOWER_ARCH).clamp(-0.999, 0.999)
    between, _ = _row(arch, 6.0)
    top = -0.035 + 0.10 * s.square() + 0.012 * torch.exp(-((between / 0.15) ** 2))
    teeth = ramp((below - top) / 0.018) * ramp((LOWER_ARCH - 0.04 - s.abs()) / 0.08)
    row = tooth * (1 - 0.2 * torch.exp(-((between / 0.08) ** 2)))
    row = row * (1 - 0.85 * arch.abs() ** 2.4).clamp(0.1, 1)
    colour = colour + (row - colour) * teeth
    alpha = torch.maximum(tongue, teeth)
    return torch.cat([colour * alpha, alpha[None]])


def _row(arch: Tensor, teeth: float) -> tuple[Tensor, Tensor]:
    """How far it is to the gap between two teeth, up to 0.5, and which tooth, from the middle."""
    phase = torch.asin(arch) / (torch.pi / 2) * teeth
    return (phase - phase.round()).abs(), phase.abs()
