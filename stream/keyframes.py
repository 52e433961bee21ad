"""When a keyframe that somebody asked for is made."""

from __future__ import annotations

APART_S = 0.3  # a keyframe costs as much as ten frames, and viewers ask all at once
SILENT_S = 0.4  # no newer frame for so long: the held one is made a keyframe instead


class KeyframeRequests:
    """One keyframe for all that ask within `APART_S`; a request is deferred, never lost."""

    def __init__(self) -> None:
        self._wanted = False
        self._made_s = float("-inf")

    def ask(self) -> None:
        self._wanted = True

    def made(self, now_s: float) -> None:
        """A keyframe was made, asked for or not."""
        self._wanted = False
        self._made_s = now_s

    def is_due(self, now_s: float) -> bool:
        """Whether a frame that is encoded now must be a keyframe."""
        return self._wanted and now_s >= self._made_s + APART_S

    def repeat_at(self, newest_s: float | None) -> float | None:
        """When to encode the held frame again, if no newer comes before; None: never.

        newest_s: when the held frame came; None: it is the card, which waits for nobody.
        """
        if not self._wanted:
            return None
        if newest_s is None:
            return self._made_s + APART_S
        return max(self._made_s + APART_S, newest_s + SILENT_S)
