"""Which packets are missing, since when, and when to ask for them again."""

from __future__ import annotations

AGAIN_S = 0.03  # the request, or its answer, may be lost as well
MOST = 128  # senders keep about as many packets to send again (aiortc exactly so many)


class Missing:
    """The gaps of one stream, by 16-bit sequence numbers."""

    def __init__(self) -> None:
        self._since_s: dict[int, float] = {}
        self._due_s: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._since_s)

    @property
    def due_s(self) -> float | None:
        """When `take_due` gives something next."""
        return min(self._due_s.values(), default=None)

    def note(self, sequence: int, now_s: float) -> None:
        """One that came later shows that this one is missing."""
        self._since_s[sequence] = self._due_s[sequence] = now_s

    def forget(self, sequence: int) -> bool:
        """It has come, or is given up; whether it was missing."""
        self._due_s.pop(sequence, None)
        return self._since_s.pop(sequence, None) is not None

    def clear(self) -> None:
        self._since_s.clear()
        self._due_s.clear()

    def since_s(self, sequence: int) -> float | None:
        return self._since_s.get(sequence)

    def take_due(self, now_s: float) -> tuple[int, ...]:
        """Those to ask for now."""
        due = tuple(sequence for sequence, at_s in self._due_s.items() if at_s <= now_s)
        for sequence in due:
            self._due_s[sequence] = now_s + AGAIN_S
        return due
