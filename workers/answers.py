"""What a model answered, against what was due."""

from __future__ import annotations

import torch
from torch import Tensor

from workers.errors import ModelError

# How far an answer may lie beyond [0, 1] at warm-up: an overshoot is clamped, another range is
# a mistake.
OVERSHOOT = 0.25


def pair_of(answer: object) -> tuple[Tensor, dict[str, Tensor]]:
    """Frames and state, as they came. Raises ModelError where the answer is no pair."""
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise ModelError(f"model answered {_said(answer)}; due was (frames, state): return both")
    frames, state = answer
    return frames, state


def check_avatars(avatars: object, pictures: Tensor) -> None:
    """Raises ModelError unless there is a picture for each. Costs no wait on the device."""
    if not (
        isinstance(avatars, Tensor)
        and avatars.shape == pictures.shape
        and avatars.dtype is pictures.dtype
    ):
        raise ModelError(
            f"model answered {_said(avatars)}; due was {_said(pictures)}: "
            "return one picture for each that came, of its size, in [0, 1]"
        )


def judge(avatars: Tensor) -> None:
    """Raises ModelError for NaN, infinities and another range. Waits for the device."""
    strange = int((~torch.isfinite(avatars)).sum())
    if strange:
        raise ModelError(
            f"model answered {strange} values that are NaN or infinite among "
            f"{avatars.numel()}; due were numbers in [0, 1]: look for a division by zero"
        )
    low, high = float(avatars.min()), float(avatars.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise ModelError(
            f"model answered values from {low:.3g} to {high:.3g}; due were values in [0, 1]: "
            "scale its answer"
        )


def _said(answer: object) -> str:
    if isinstance(answer, Tensor):
        return f"{tuple(answer.shape)} {str(answer.dtype).removeprefix('torch.')}"
    return f"a {type(answer).__name__}"
