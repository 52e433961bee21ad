"""A session's avatar frames on their way to its encoders: the newest, held until a newer comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from stream.timestamps import WIRE_TIME_BASE
from workers.frame import FrameRef
from workers.ring import Ring

REPEAT_S = 1.0
MAX_CLAIMED = 3  # of the outbox's slots; the worker needs the others

Pixels = NDArray[np.uint8]


class AvatarFrame:
    """One avatar frame, which stays as it is until each that retained it has released it.

    array: (H * 3 // 2, W) uint8, I420, read only by agreement. Belongs to the event loop: a
    thread may read the array while someone on the loop retains the frame for it.
    """

    __slots__ = ("_free", "_users", "array", "arrival_s", "pts", "sequence", "time_base")

    def __init__(
        self,
        array: Pixels,
        sequence: int,
        pts: int,
        time_base: Fraction,
        arrival_s: float | None,
        free: Callable[[], None],
    ) -> None:
        self.array = array
        self.sequence = sequence  # 0: the card
        self.pts = pts
        self.time_base = time_base
        self.arrival_s = arrival_s  # of the camera's frame; None: the card
        self._free = free
        self._users = 1

    def retain(self) -> AvatarFrame:
        assert self._users > 0
        self._users += 1
        return self

    def release(self) -> None:
        assert self._users > 0
        self._users -= 1
        if not self._users:
            self._free()


Listener = Callable[[AvatarFrame], None]


class Feed:
    """Takes what the worker emits for one lease, and shows it to the listeners.

    A listener gets each frame it can keep up with, and the last one again each second while there
    is no newer; before the first, the card. It retains what it needs beyond the call. A frame of
    another lease is never shown.
    """

    def __init__(self, ring: Ring, lease: int, card: Pixels) -> None:
        self._ring = ring
        self._lease = lease
        self._latest = AvatarFrame(card, 0, 0, WIRE_TIME_BASE, None, lambda: None)
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = ring.ready_fd
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._claimed = 0
        self._shown_s = 0.0
        self.newest_s: float | None = None  # when the latest came; None: there is only the card
        self.taken = 0
        self.unsent = 0  # gave way to a newer one
        self.of_another_lease = 0
        self.high_water_claimed = 0

    @property
    def latest(self) -> AvatarFrame:
        """The newest avatar frame, or the card; not to be used once the feed is closed."""
        return self._latest

    @property
    def is_open(self) -> bool:
        return self._loop is not None

    def open(self) -> None:
        """Begin to take frames, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._shown_s = time.monotonic()
        self._read(True)
        self._timer = self._loop.call_later(REPEAT_S, self._tick)

    def close(self) -> None:
        """Take and show no more; a slot goes back when its last encoder is done with it."""
        if self._loop is None:
            return
        self._read(False)
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        self._listeners.clear()
        self._latest.release()

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """The listener gets nothing more; leaving twice is no error."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _on_ready(self) -> None:
        if self._claimed == MAX_CLAIMED:
            self._read(False)  # until an encoder is done: the newest waits in the ring
            return
        newest, older = self._ring.take_newest()
        for frame in older:
            self._count_unshown(frame)
        if newest is None:
            return
        if newest.lease != self._lease:
            self._count_unshown(newest)
            self._ring.give_back(newest.slot)
            return
        self.taken += 1
        self.newest_s = time.monotonic()
        self._replace(newest)
        self._show()

    def _count_unshown(self, frame: FrameRef) -> None:
        if frame.lease == self._lease:
            self.unsent += 1
        else:
            self.of_another_lease += 1

    def _replace(self, ref: FrameRef) -> None:
        self._claimed += 1
        self.high_water_claimed = max(self.high_water_claimed, self._claimed)
        previous, self._latest = (
            self._latest,
            AvatarFrame(
                self._ring.view(ref.slot),
                ref.sequence,
                ref.pts,
                ref.time_base,
                ref.arrival_s,
                lambda: self._give_back(ref.slot),
            ),
        )
        previous.release()

    def _give_back(self, slot: int) -> None:
        self._ring.give_back(slot)
        self._claimed -= 1
        if self._loop is not None:
            self._read(True)

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        for listener in tuple(self._listeners):
            listener(self._latest)

    def _tick(self) -> None:
        assert self._loop is not None
        left_s = self._shown_s + REPEAT_S - time.monotonic()
        if left_s <= 0.001:
            self._show()
            left_s = REPEAT_S
        self._timer = self._loop.call_later(left_s, self._tick)

    def _read(self, wanted: bool) -> None:
        assert self._loop is not None
        if wanted and not self._reading:
            self._loop.add_reader(self._fd, self._on_ready)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._fd)
        self._reading = wanted
