"""The terms a worker runs at: the user's word, the model's, else the device's default."""

from __future__ import annotations

from workers.errors import ModelError, SettingsError
from workers.geometry import Geometry

CPU_GEOMETRY = Geometry(256, 256)
CUDA_GEOMETRY = Geometry(512, 512)
CUDA_BATCH = 16


def choose_geometry(asked: Geometry | None, own: Geometry | None, *, on_cuda: bool) -> Geometry:
    """Raises ModelError where the user asks for another geometry than the model's own."""
    if own is not None and asked is not None and asked != own:
        raise ModelError(
            f"the model runs at {own} only, --geometry asks for {asked}: leave --geometry out"
        )
    return own or asked or (CUDA_GEOMETRY if on_cuda else CPU_GEOMETRY)


def choose_batch_sizes(
    asked: tuple[int, ...] | None, own: int | None, max_sessions: int, *, on_cuda: bool
) -> tuple[int, ...]:
    """Ascending. On a CPU one by default: there a fill costs as much as a frame.

    `own`: the batch of a model that was exported for just one. Raises ModelError where the user
    asks for others, SettingsError where there are fewer lanes than rows.
    """
    if own is not None:
        if asked is not None and asked != (own,):
            raise ModelError(f"the model runs at batch {own} only: leave --batch out")
        asked = (own,)
    if asked is None:
        return (min(CUDA_BATCH, max_sessions) if on_cuda else 1,)
    if own is not None and own > max_sessions:
        raise SettingsError(
            f"the model's batch of {own} is more than --max-sessions {max_sessions} can fill: "
            f"pass --max-sessions {own}"
        )
    if max(asked) > max_sessions:
        raise SettingsError(
            f"batch {max(asked)} is more than --max-sessions {max_sessions} can fill: "
            f"pass --max-sessions {max(asked)}, or a smaller --batch"
        )
    return tuple(sorted(asked))
