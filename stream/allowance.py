"""What a viewer's network carries, as far as its reports tell."""

from __future__ import annotations

LEAST_BIT_RATE = 100_000  # below it there is no picture worth sending

_CONGESTED = 0.9  # an estimate below this part of what is sent: the network is full
_SATURATED = 0.8  # less than this part of the allowance is sent: no estimate can tell its bound
_GROWTH = 1.1  # a second, where nothing is known but that what is sent arrives
_BAD_LOSS, _NO_LOSS = 0.1, 0.02  # as in draft-ietf-rmcat-gcc-02, section 6
_FLOODED = 0.3  # no rough air any more: what arrives is what the network carries
_STUCK_S = 3.0
_TRUST_S = 10.0  # an estimate says more than the losses do, for so long


class Allowance:
    """bit/s that may be sent to one viewer; it starts at the most there is.

    An estimate (REMB) is bounded by what was sent before it, whatever the network could take, and
    rises by a few percent a second. So it lowers the allowance where it is less than what is sent
    and falls, or is the first, or does not rise any more. Where the picture needs little, which
    is no proof of anything, the allowance grows back by itself.
    """

    def __init__(self, most_bit_rate: int) -> None:
        self._most = most_bit_rate
        self.bit_rate = most_bit_rate
        self._heard_s: float | None = None
        self._estimated_s = float("-inf")
        self._estimate: int | None = None
        self._stuck_since_s: float | None = None  # more is sent, and the estimate does not rise

    def estimate(self, bit_rate: int, sent_bit_rate: float, now_s: float) -> None:
        """The viewer's REMB; sent_bit_rate: what it was sent of late."""
        self._estimated_s = now_s
        before, self._estimate = self._estimate, bit_rate
        if bit_rate >= _CONGESTED * sent_bit_rate:
            self._stuck_since_s = None
        elif self._stuck_since_s is None or (before is not None and bit_rate > before):
            self._stuck_since_s = now_s
        if self._stuck_since_s is not None:
            falls = before is None or bit_rate < before
            if falls or now_s - self._stuck_since_s >= _STUCK_S:
                self._lower(bit_rate, now_s)
            self._heard_s = now_s
        elif sent_bit_rate >= _SATURATED * self.bit_rate:
            self._raise(bit_rate, now_s)
        else:
            self._grow(now_s)

    def loss(self, fraction: float, sent_bit_rate: float, now_s: float) -> None:
        """A receiver report: the fraction, 0 to 1, that was lost since the one before."""
        if sent_bit_rate <= 0:
            return  # too early to tell
        if fraction > _BAD_LOSS:
            kept = 1 - (fraction if fraction > _FLOODED else fraction / 2)
            self._lower(int(sent_bit_rate * kept), now_s)
        elif now_s - self._estimated_s <= _TRUST_S:
            return
        elif fraction < _NO_LOSS:
            self._grow(now_s)
        else:
            self._heard_s = now_s

    def _lower(self, bit_rate: int, now_s: float) -> None:
        self.bit_rate = max(min(self.bit_rate, bit_rate), min(LEAST_BIT_RATE, self._most))
        self._heard_s = now_s

    def _raise(self, bit_rate: int, now_s: float) -> None:
        self.bit_rate = min(max(self.bit_rate, bit_rate), self._most)
        self._heard_s = now_s

    def _grow(self, now_s: float) -> None:
        passed_s = 0.0 if self._heard_s is None else min(max(now_s - self._heard_s, 0.0), 2.0)
        self._raise(int(self.bit_rate * _GROWTH**passed_s), now_s)


class SentRate:
    """What was sent to one viewer, second by second."""

    def __init__(self) -> None:
        self._second = 0
        self._bits = [0, 0, 0]  # this second, the last, the one before

    def add(self, size_bytes: int, now_s: float) -> None:
        self._turn(now_s)
        self._bits[0] += 8 * size_bytes

    def bit_rate(self, now_s: float) -> int:
        """The lesser of the last two seconds': a keyframe alone is no rate."""
        self._turn(now_s)
        return min(self._bits[1:])

    def _turn(self, now_s: float) -> None:
        passed = min(int(now_s) - self._second, len(self._bits))
        if passed > 0:
            self._second = int(now_s)
            self._bits = ([0] * passed + self._bits)[: len(self._bits)]
