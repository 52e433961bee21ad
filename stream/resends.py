"""Which of the packets that a viewer misses are sent again."""

from __future__ import annotations

from collections import deque

_AGAIN_S = 0.1  # a peer asks for all that it misses each time that it misses one more
_PART = 0.25  # of the rate: a line that is full already is not to be filled with the past
_LEAST = 4
_PACKET_BITS = 8 * 1200


class Resends:
    """At most a quarter of the rate, and each packet once in a tenth of a second."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, int]] = deque()  # of the last second
        self.refused = 0

    def allows(self, sequence: int, bit_rate: int, now_s: float) -> bool:
        """True: it is sent, and counted. bit_rate: of what the viewer is sent."""
        while self._sent and now_s - self._sent[0][0] >= 1.0:
            self._sent.popleft()
        most = max(_LEAST, int(_PART * bit_rate / _PACKET_BITS))
        is_again = any(it == sequence and now_s - at_s < _AGAIN_S for at_s, it in self._sent)
        if is_again or len(self._sent) >= most:
            self.refused += 1
            return False
        self._sent.append((now_s, sequence))
        return True
