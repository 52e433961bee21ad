"""A performer who does what they are told, to the frame: a portrait moved by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.models.api import Tensors
from workers.models.face import mesh
from workers.models.face.performance import Performance
from workers.models.puppet import composite
from workers.models.puppet.composite import View
from workers.models.puppet.model import Puppet
from workers.models.puppet.motion import Rest

AT_ONCE = 8
JAW = 0.22  # radians, of a mouth that is wide open


@dataclass(frozen=True, slots=True)
class Score:
    """(N,) each, over time."""

    mouth: Tensor  # 0 shut, 1 wide open
    shut: Tensor  # both eyes: 0 as they are, 1 shut
    yaw: Tensor  # radians
    pitch: Tensor
    roll: Tensor
    shift: Tensor  # centimetres to the right

    @classmethod
    def everything(cls, count: int, fps: float = 25.0) -> Score:
        """A second of stillness; then all at once, at paces that no common one divides."""
        time = torch.arange(count) / fps
        begun = ((time - 1) / 0.5).clamp(0, 1)

        def wave(pace_hz: float) -> Tensor:
            return begun * torch.sin(2 * torch.pi * pace_hz * (time - 1))

        blink = torch.zeros(count)
        for start in range(int(1.6 * fps), count - 9, int(1.3 * fps)):
            blink[start : start + 8] = torch.tensor([0.4, 0.9, 1.0, 1.0, 1.0, 0.9, 0.55, 0.2])
        return cls(
            mouth=wave(1.3).square(),
            shut=blink,
            yaw=0.18 * wave(0.37),
            pitch=0.104 * wave(0.53),
            roll=0.15 * wave(0.29),
            shift=0.5 * wave(0.23),
        )


def act(model: Puppet, identity: Tensors, score: Score, side: int = 256) -> Tensor:
    """(N, 3, side, side) uint8; identity: of one portrait."""
    performance = _performed(score)
    # The performer turns as far as they are told, whatever avatars make of it.
    performance = performance._replace(turn=performance.turn / model.mover.turn_gain)
    drawn, view = [], View(side, side)
    with torch.inference_mode():
        for part in torch.arange(len(score.mouth)).split(AT_ONCE):
            row = {
                name: it.expand(len(part), *it.shape).float()
                for name, it in identity.items()
            }  # fmt: skip
            rest = Rest(*(row[name] for name in Rest._fields))
            one = torch.ones(len(part))
            now = Performance(*(it[part] for it in performance))
            picture = composite.draw(row, model.mover(now, rest, one, one), model.leading, view)
            drawn.append((picture * 255).round().byte())
    return torch.cat(drawn)


def _performed(score: Score) -> Performance:
    count = len(score.mouth)
    neutral = mesh.canonical_shape()
    upper, lower = list(mesh.UPPER_LIP_EDGE), list(mesh.LOWER_LIP_EDGE)
    neutral[upper] = neutral[lower] = (neutral[upper] + neutral[lower]) / 2
    shape = neutral.expand(count, -1, -1).clone()
    _drop_jaw(shape, neutral, score.mouth[:, None] * JAW)
    for above, below in (
        (mesh.RIGHT_UPPER_LID, mesh.RIGHT_LOWER_LID),
        (mesh.LEFT_UPPER_LID, mesh.LEFT_LOWER_LID),
    ):
        way = neutral[list(below)] - neutral[list(above)]
        shape[:, list(above)] += score.shut[:, None, None] * 0.9 * way
    nought = torch.zeros(count)
    return Performance(
        turn=torch.stack([score.pitch, score.yaw, score.roll], 1),
        shift=torch.stack([score.shift, nought], 1),
        growth=nought,
        shape=shape,
        neutral=neutral.expand(count, -1, -1),
        follow=nought + 1,
    )


def _drop_jaw(shape: Tensor, neutral: Tensor, angle: Tensor) -> None:
    """What lies below the lips' line turns about the ears; angle (N, 1)."""
    ears = neutral[[mesh.LEFT_CHEEK, mesh.RIGHT_CHEEK]].mean(0)
    line = neutral[mesh.LOWER_LIP, 1]
    takes_part = torch.sigmoid((neutral[:, 1] - line - 0.2) * 6)
    takes_part[list(mesh.LOWER_LIP_EDGE)] = 1
    takes_part[list(mesh.UPPER_LIP_EDGE)] = 0
    turn = angle * takes_part
    y, z = (neutral - ears)[:, 1:].unbind(1)
    shape[..., 1] = y * turn.cos() - z * turn.sin() + ears[1]
    shape[..., 2] = y * turn.sin() + z * turn.cos() + ears[2]
