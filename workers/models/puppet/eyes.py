"""The eyes, drawn: lids over an eyeball, as far open as they are, and an iris that looks around.

In an eye's frame the edges of its lids are curves. Shutting an eye is a change of heights there,
which has an exact inverse: lids meet, and nothing is smeared. The upper lid is the portrait's own
while the eye is nearly open, with its lashes moved as a whole; from there on it is one that was
painted for it (`eye_parts`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workers.models.api import Tensors
from workers.models.puppet.field import sample
from workers.models.puppet.framing import SIDE
from workers.models.puppet.local import Frame, Window
from workers.models.puppet.motion import Motion
from workers.models.puppet.raster import ramp

WINDOW = Window(-0.8, -0.72, 0.8, 0.48, wide=128, high=96)
TERMS = 4  # of a curve's polynomial
MEET = 0.12  # from the lower lid up to the upper one: where they meet
LASHES = 0.07  # above the upper lid's edge, what goes down with it unstretched
SOFT = 0.05  # across the edge of a lid
FADES = 0.9, 0.4  # how open an eye is, between which its own lid becomes the painted one
SHADE = 0.4  # beneath a lid that comes down


class Curves(NamedTuple):
    """Heights in an eye's frame, all of one shape."""

    upper: Tensor  # lid's edge
    lower: Tensor
    crease: Tensor
    cheek: Tensor
    brow: Tensor

    @property
    def shut(self) -> Tensor:
        """Where the lids meet."""
        return self.lower + MEET * (self.upper - self.lower)


def curves_at(terms: Tensor, s: Tensor) -> Curves:
    """terms (N, 5, TERMS), at s (N, …). The lids' edges end in the corners."""
    s = s.clamp(-0.5, 0.5)
    square = s * s
    powers = torch.stack([torch.ones_like(s), s, square, square * s], 1).flatten(2)
    heights = (terms @ powers).view(s.shape[0], -1, *s.shape[1:])
    lids = heights[:, :2] * (1 - 4 * square)[:, None]
    return Curves(*lids.unbind(1), *heights[:, 2:].unbind(1))


def changes(
    identity: Tensors, motion: Motion, figure: Tensor, before: Tensor, places: Tensor
) -> Tensor:
    """What both eyes' patches add to the picture, (B, 3, n).

    before (B, 3, n): what is there; places (B, 6, 2 h, w): where from, see `composite`.
    """
    rows, wide = places.shape[0], places.shape[-1]
    places = places.reshape(rows, 6, 2, -1, wide).transpose(1, 2).flatten(0, 1)
    frame = Frame.of_rows(identity["eye_frames"].flatten(0, 1))
    s, h = frame.inside(places[:, 2], places[:, 3])
    curves = curves_at(identity["eye_curves"].flatten(0, 1), s)
    open_ = motion.lids.flatten()[:, None, None]
    shut = curves.shut
    upper = shut + (curves.upper - shut) * open_
    lower = shut + (curves.lower - shut) * open_

    skin = _skin(figure, frame, s, h, curves, upper, lower)
    lid_h = h - (upper - shut) * _rise(curves.crease, upper - LASHES, h)
    lid = sample(identity["eye_lids"].flatten(0, 1), WINDOW.normal(s, lid_h), "zeros")
    shown = ramp((upper + 0.02 - h) / SOFT + 0.5)
    shown = (shown * ramp((FADES[0] - open_) / (FADES[0] - FADES[1])))[:, None]
    skin = skin * (1 - lid[:, 3:] * shown) + lid[:, :3] * shown

    # The eyeball is the skull's: it stays where the skin around it moves.
    ball = _ball(identity, motion, frame, *frame.inside(places[:, 0], places[:, 1]))
    shade = SHADE * ramp((1 - open_) / 0.5) * torch.exp((upper - h).clamp(max=0) / 0.08)
    ball = ball * (1 - shade[:, None])
    between = ramp((h - upper) / SOFT) * ramp((lower - h) / SOFT)
    eye = skin + (ball - skin) * between[:, None]

    where = ramp((0.7 - s.abs()) / 0.08)
    where = where * ramp((h - WINDOW.top) / 0.08) * ramp((WINDOW.bottom - h) / 0.08)
    eye = eye.reshape(rows, 2, 3, -1).transpose(1, 2).flatten(2)
    return (eye - before) * where.reshape(rows, 1, -1)


def _skin(
    figure: Tensor, frame: Frame, s: Tensor, h: Tensor, curves: Curves, upper: Tensor, lower: Tensor
) -> Tensor:
    """The portrait's own lids, moved: (2 B, 3, h, w)."""
    top = (curves.crease + curves.brow) / 2
    above = h - (upper - curves.upper) * _rise(top, upper - LASHES, h)
    below = h - (lower - curves.lower) * _rise(curves.cheek, lower, h)
    x, y = frame.outside(s, torch.where(h < (upper + lower) / 2, above, below))
    at = torch.stack([x, y], 1) * (2 / SIDE) - 1
    both = at.reshape(-1, 2, 2, *at.shape[2:]).transpose(1, 2).flatten(2, 3)
    skin = sample(figure, both)[:, :3]
    return skin.reshape(-1, 3, 2, *at.shape[2:]).transpose(1, 2).flatten(0, 1)


def _ball(identity: Tensors, motion: Motion, frame: Frame, s: Tensor, h: Tensor) -> Tensor:
    ball = sample(identity["eye_balls"].flatten(0, 1), WINDOW.normal(s, h))
    gaze = motion.gaze.repeat_interleave(2, 0)[:, :, None, None]
    gaze_s, gaze_h = frame.turned(gaze[:, 0], gaze[:, 1])
    at = WINDOW.normal(s - gaze_s, h - gaze_h)
    iris = sample(identity["eye_irises"].flatten(0, 1), at, "zeros")
    return ball * (1 - iris[:, 3:]) + iris[:, :3]


def _rise(none: Tensor, whole: Tensor, h: Tensor) -> Tensor:
    """0 where h is at or beyond `none`, 1 at or beyond `whole`, smooth between."""
    way = whole - none
    way = torch.where(way < 0, way.clamp(max=-0.04), way.clamp(min=0.04))
    return ramp((h - none) / way)
