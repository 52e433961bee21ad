"""The way into a lane: a picture of any size, scaled straight into the slot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import av

from stream.timestamps import WIRE_HZ, WIRE_TIME_BASE
from workers.frame import FrameRef
from workers.geometry import Geometry
from workers.ring import Ring
from workers.swscale import Fit, Scaler


class LaneInbox:
    """One tenant's door to a lane's inbox: the newest frames, numbered and counted.

    `put` belongs to one thread, `close` and the counts to any.
    """

    def __init__(
        self,
        ring: Ring,
        lease: int,
        take_sequence: Callable[[], int],
        geometry: Geometry,
        fit: Fit,
    ) -> None:
        """take_sequence: the lane's next number, which goes on over its tenants."""
        self._ring = ring
        self._lease = lease
        self._scaler = Scaler(geometry, fit)
        self._lock = threading.Lock()  # never held while a picture is scaled
        self._scaling = False
        self._closed = False
        self._take_sequence = take_sequence
        self.published = 0
        self.overwritten = 0  # frames that gave way, here or in the ring, before the worker's look
        self.last_arrival_s: float | None = None

    def put(self, frame: av.VideoFrame, arrival_s: float) -> None:
        """Publish a decoded picture; after `close`, nothing happens.

        arrival_s: CLOCK_MONOTONIC, when the last of it came over the network.
        """
        slot = self._claim(arrival_s)
        if slot is None:
            return
        try:
            self._scaler.scale(frame, self._ring.view(slot))
        except BaseException:
            self._end(slot, None)
            raise
        pts, time_base = _source_time(frame, arrival_s)
        ref = FrameRef(self._ring.lane, self._lease, 0, slot, pts, time_base, arrival_s)
        self._end(slot, ref)

    def close(self) -> None:
        """No frame of this tenant comes after this; waits for no scaling."""
        with self._lock:
            if not self._closed and not self._scaling:
                self._scaler.close()
            self._closed = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is published meanwhile: the counts and the ring stay in step."""
        with self._lock:
            yield

    def _claim(self, arrival_s: float) -> int | None:
        with self._lock:
            if self._closed:
                return None
            self.last_arrival_s = arrival_s
            claim = self._ring.claim()
            if claim is None or claim.taken_back is not None:
                self.overwritten += 1
            if claim is None:
                # The worker holds every slot. The number is used up, so that it sees the loss.
                self._take_sequence()
                return None
            self._scaling = True
            return claim.slot

    def _end(self, slot: int, frame: FrameRef | None) -> None:
        """Publish the frame under the next number, or give its slot back."""
        with self._lock:
            self._scaling = False
            if self._closed:
                self._scaler.close()
            if self._closed or frame is None:
                self._ring.cancel(slot)
                return
            self._ring.publish(replace(frame, sequence=self._take_sequence()))
            self.published += 1


def _source_time(frame: av.VideoFrame, arrival_s: float) -> tuple[int, Fraction]:
    """The source's own timestamp, or its arrival where it has none."""
    if frame.pts is None or frame.time_base is None:
        return int(arrival_s * WIRE_HZ), WIRE_TIME_BASE
    return frame.pts, Fraction(frame.time_base.numerator, frame.time_base.denominator)
