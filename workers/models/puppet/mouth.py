"""The mouth, drawn: what is in it, seen between two lips that know nothing of each other."""

from __future__ import annotations

from torch import Tensor

from workers.models.api import Tensors
from workers.models.puppet.field import sample
from workers.models.puppet.framing import SIDE
from workers.models.puppet.local import Frame, Window
from workers.models.puppet.motion import Motion

WINDOW = Window(-0.75, -0.6, 0.75, 1.05, wide=192, high=212)
UPPER_SHADE, LOWER_SHADE = 0.6, 0.35  # of the lips, on what is behind them


def changes(
    identity: Tensors, motion: Motion, figure: Tensor, before: Tensor, places: Tensor
) -> Tensor:
    """What the mouth's patch adds to the picture, (B, 3, n).

    before (B, 3, n): what is there, drawn by the upper field; places (B, 6, h, w): where from,
    see `composite`.
    """
    frame = Frame.of_rows(identity["mouth_frame"])
    masks, parts = identity["mouth_masks"], identity["mouth_parts"]

    def seen(picture: Tensor, at: Tensor) -> Tensor:
        return sample(picture, WINDOW.normal(*frame.inside(at[:, 0], at[:, 1])))

    # Cavity and upper teeth are the skull's, tongue and lower teeth go with the jaw.
    rest, upper, lower = places[:, 0:2], places[:, 2:4], places[:, 4:6]
    above, below = seen(masks[:, 0:2], upper), seen(masks[:, 2:4], lower)
    still, jaw = seen(parts[:, :7], rest), seen(parts[:, 7:], rest - motion.jaw[:, :, None, None])
    inner = still[:, :3] * (1 - jaw[:, 3:]) + jaw[:, :3]
    inner = inner * (1 - UPPER_SHADE * above[:, 1:]) * (1 - LOWER_SHADE * below[:, 1:])
    inner = inner * (1 - still[:, 6:]) + still[:, 3:6]
    lip = sample(figure, lower * (2 / SIDE) - 1)[:, :3]
    inner = inner + (lip - inner) * below[:, :1]
    return (inner.flatten(2) - before) * (1 - above[:, :1]).flatten(2)
