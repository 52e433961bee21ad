"""Each lane's tally in shared memory: what a worker did, readable also after it died.

A tally has two places and a word that says which of them holds. The worker writes the other place
and then turns the word, so that it may die between any two instructions.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import astuple, fields

from workers.messages import Tally

_WORD_BYTES = 8
_COUNTS = len(fields(Tally))
_WORDS = 1 + 2 * _COUNTS  # a lane's: which place holds, and the two places


class Ledger:
    """Of all lanes. One process writes, at any one time; reading is for when it is gone."""

    def __init__(self, fd: int, offset: int, lanes: int) -> None:
        """In the file from `offset` on, a multiple of the page; it holds zeros at first."""
        memory = mmap.mmap(fd, ledger_bytes(lanes), mmap.MAP_SHARED, offset=offset)
        self._words = memoryview(memory).cast("q")
        self._lanes = lanes

    def write(self, tallies: Mapping[int, Tally]) -> None:
        """These lanes' tallies, each as a whole or not at all."""
        for lane, tally in tallies.items():
            first = lane * _WORDS
            other = 1 - self._words[first]
            place = first + 1 + other * _COUNTS
            for at, count in enumerate(astuple(tally), place):
                self._words[at] = count
            self._words[first] = other  # one store of one word

    def take(self) -> dict[int, Tally]:
        """The tallies of the lanes that have one, which are nought from now on, for the next."""
        all_lanes = {lane: self._tally(lane) for lane in range(self._lanes)}
        self.write(dict.fromkeys(all_lanes, Tally()))
        return {lane: tally for lane, tally in all_lanes.items() if tally != Tally()}

    def close(self) -> None:
        self._words.release()

    def _tally(self, lane: int) -> Tally:
        first = lane * _WORDS
        place = first + 1 + self._words[first] * _COUNTS
        return Tally(*self._words[place : place + _COUNTS])


def ledger_bytes(lanes: int) -> int:
    """Whole pages."""
    return -(-lanes * _WORDS * _WORD_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
