"""The arena: a memfd of slots that two processes hand each other by tokens in kernel pipes.

A ring is a lane's inbox or outbox: a few slots, and two pipes. A token in `free` is a slot that
nobody uses, a token in `ready` a frame that nobody has taken. A token leaves one pipe before it
enters another, so a slot is in one place or, when its holder was killed meanwhile, in none; the
owner frees those again once the dead are waited for (`Ring.reclaim`). Nothing is locked between
the processes, and the kernel's pipe is the doorbell.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import struct
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workers.errors import SettingsError
from workers.frame import FrameRef
from workers.geometry import Geometry
from workers.ledger import Ledger, ledger_bytes
from workers.messages import AttachArena

INBOX_SLOTS = 5  # two beyond what the batches in flight and the one being filled may hold
OUTBOX_SLOTS = 5  # being encoded, ready, two in flight, one spare

Pixels = NDArray[np.uint8]

_TOKEN = struct.Struct("<QQQqqqd")  # slot, lease, sequence, pts, time base (two), arrival_s
_MOST_SLOTS = 32  # so that all tokens of a ring fit one page, whatever its size
_PIPE_BYTES = 2 * mmap.PAGESIZE
# Not one page: tokens share it only until its end is reached, and then a pipe that never ran
# empty meanwhile is full with a single token in it. A second page takes over from the first.
_FDS_A_RING = 4
_FDS_BESIDES = 256  # what a server opens besides the arena: files, pipes, brokers…
_FDS_BESIDES_A_LANE = 16  # …and a session's sockets


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot to write to, and the frame that gave way for it, if one did."""

    slot: int
    taken_back: FrameRef | None


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a dead side left: the slots that are free again, the frames that are still ready."""

    slots: tuple[int, ...]
    ready: tuple[FrameRef, ...]  # oldest first; they stay in the ring


class Ring:
    """A lane's slots in one direction: one producer, one consumer, each in whichever process.

    Within a process all methods may be called from any thread.
    """

    def __init__(self, lane: int, pixels: Pixels, fds: tuple[int, ...]) -> None:
        """pixels: (slots, H * 3 // 2, W), the arena's own memory; fds: free's two, ready's two."""
        self.lane = lane
        self.slots = len(pixels)
        self._views: tuple[Pixels, ...] = tuple(pixels)
        self._free_out, self._free_in, self.ready_fd, self._ready_in = fds
        self._held: set[int] = set()  # by this side: claimed or taken
        # A process's own lock, held for no longer than a few system calls: it keeps `reclaim`
        # from mistaking for lost what another thread of the living side takes meanwhile.
        self._lock = threading.Lock()

    def view(self, slot: int) -> Pixels:
        """(H * 3 // 2, W) uint8, I420, the slot's own memory; yours while you hold the slot."""
        return self._views[slot]

    # ------------------------------------------------------------ the producer

    def claim(self) -> Claim | None:
        """A slot for the next frame: a free one, else that of the oldest ready frame.

        None: the consumer holds every slot. What is claimed is given up by `publish` or `cancel`.
        """
        with self._lock:
            slot = self._read_free()
            if slot is None:
                oldest = self._read_ready()
                if oldest is not None:
                    return Claim(self._hold(oldest.slot), oldest)
                # Since the look at `free` the consumer may have given a slot back and taken the
                # last ready frame. Nobody else fills `ready`, so a second look decides.
                slot = self._read_free()
            return None if slot is None else Claim(self._hold(slot), None)

    def claim_free(self) -> int | None:
        """A free slot, lossless: no frame gives way. None: there is none at present."""
        with self._lock:
            slot = self._read_free()
            return None if slot is None else self._hold(slot)

    def publish(self, frame: FrameRef) -> None:
        """Hands the frame in the claimed `frame.slot` to the consumer."""
        assert frame.lane == self.lane, f"a frame of lane {frame.lane} in lane {self.lane}"
        token = _pack(frame)
        with self._lock:
            self._let_go(frame.slot, self._ready_in, token)

    def cancel(self, slot: int) -> None:
        """A claimed slot is free again, unpublished."""
        self.give_back(slot)

    # ------------------------------------------------------------ the consumer

    def take(self) -> FrameRef | None:
        """The oldest ready frame, held until `give_back`; None: nothing is ready."""
        with self._lock:
            frame = self._read_ready()
            if frame is not None:
                self._hold(frame.slot)
            return frame

    def take_newest(self) -> tuple[FrameRef | None, tuple[FrameRef, ...]]:
        """The newest ready frame, held until `give_back`, and the older ones, given back."""
        newest: FrameRef | None = None
        older: list[FrameRef] = []
        # One by one, so that a producer never finds every slot held; and no more often than
        # there are slots, so that a fast producer cannot keep us here.
        for _ in range(self.slots):
            frame = self.take()
            if frame is None:
                break
            if newest is not None:
                self.give_back(newest.slot)
                older.append(newest)
            newest = frame
        return newest, tuple(older)

    def give_back(self, slot: int) -> None:
        """A taken slot is free again."""
        with self._lock:
            self._let_go(slot, self._free_in, bytes((slot,)))

    # --------------------------------------------------------------- the owner

    def reclaim(self, held: Collection[int] = ()) -> Reclaimed:
        """Frees what a dead side held; only after it was waited for, and before the next starts.

        Until `waitpid` has returned, a driver may still copy from or to the slots of the dead.
        held: slots of a living side other than this object, which knows its own.
        """
        with self._lock:
            free, ready = tuple(self._drain_free()), tuple(self._drain_ready())
            found = [*free, *(frame.slot for frame in ready), *self._held, *held]
            assert len(found) == len(set(found)), f"slots in two places: {sorted(found)}"
            lost = set(range(self.slots)).difference(found)
            for frame in ready:
                os.write(self._ready_in, _pack(frame))
            os.write(self._free_in, bytes((*free, *lost)))
            return Reclaimed(tuple(sorted(lost)), ready)

    def end(self) -> None:
        """With the arena: what is called from here on raises OSError, and `view` IndexError."""
        with self._lock:
            self._free_out = self._free_in = self.ready_fd = self._ready_in = -1
            self._views = ()

    # ------------------------------------------------------------------ tokens

    def _hold(self, slot: int) -> int:
        self._held.add(slot)
        return slot

    def _let_go(self, slot: int, pipe: int, token: bytes) -> None:
        assert slot in self._held, f"slot {slot} of lane {self.lane} is not held here"
        os.write(pipe, token)
        self._held.discard(slot)

    def _read_free(self) -> int | None:
        token = _read(self._free_out, 1)
        return token[0] if token else None

    def _read_ready(self) -> FrameRef | None:
        token = _read(self.ready_fd, _TOKEN.size)
        return _unpack(self.lane, token) if token else None

    def _drain_free(self) -> Iterator[int]:
        while (slot := self._read_free()) is not None:
            yield slot

    def _drain_ready(self) -> Iterator[FrameRef]:
        while (frame := self._read_ready()) is not None:
            yield frame


@dataclass(frozen=True, slots=True)
class ArenaFds:
    """The arena's descriptors: the memfd, then four for each ring, inbox before outbox.

    They need no geometry, so a worker can inherit them before its model has named one.
    """

    lanes: int
    inbox_slots: int
    outbox_slots: int
    fds: tuple[int, ...]

    @classmethod
    def create(
        cls, lanes: int, inbox_slots: int = INBOX_SLOTS, outbox_slots: int = OUTBOX_SLOTS
    ) -> ArenaFds:
        """An empty memfd, and pipes in which every slot is free; closed by `close`.

        Raises SettingsError when the process may not open so many descriptors.
        """
        assert 1 <= inbox_slots <= _MOST_SLOTS and 1 <= outbox_slots <= _MOST_SLOTS
        _allow_descriptors(lanes)
        fds: list[int] = []
        try:
            fds.append(os.memfd_create("omokage-arena", os.MFD_CLOEXEC))
            for _ in range(lanes):
                for slots in (inbox_slots, outbox_slots):
                    fds += _ring_pipes(slots)
        except OSError as error:
            _close_all(fds)
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.EPERM):
                raise
            raise SettingsError(
                f"the pipes of {lanes} sessions cannot be opened ({error.strerror}): "
                "lower --max-sessions"
            ) from error
        return cls(lanes, inbox_slots, outbox_slots, tuple(fds))

    def close(self) -> None:
        _close_all(self.fds)


class Arena:
    """The memory of all lanes, allocated once. A context manager; `close` ends it here.

    buffer: (bytes,) uint8, all slots, each from a page boundary on.
    ledger: what the worker counted, for when it is gone.
    """

    def __init__(self, geometry: Geometry, fds: ArenaFds, owns_fds: bool) -> None:
        self.geometry = geometry
        self.lanes = fds.lanes
        self._fds = fds
        self._owns_fds = owns_fds
        self.buffer: Pixels = np.frombuffer(
            mmap.mmap(fds.fds[0], _slots_bytes(geometry, fds), mmap.MAP_SHARED | mmap.MAP_POPULATE),
            np.uint8,
        )
        self.ledger = Ledger(fds.fds[0], _slots_bytes(geometry, fds), fds.lanes)
        self._inboxes: list[Ring] = []
        self._outboxes: list[Ring] = []
        self._lay_out()

    @classmethod
    def create(
        cls,
        geometry: Geometry,
        lanes: int,
        inbox_slots: int = INBOX_SLOTS,
        outbox_slots: int = OUTBOX_SLOTS,
    ) -> Arena:
        """A new arena, its pages touched, every slot free.

        Raises SettingsError when its descriptors or its memory do not fit.
        """
        return cls.shape(geometry, ArenaFds.create(lanes, inbox_slots, outbox_slots))

    @classmethod
    def shape(cls, geometry: Geometry, fds: ArenaFds) -> Arena:
        """The arena over descriptors that were made before the geometry was known.

        It owns them, and closes them when it raises SettingsError: the memory does not fit.
        """
        size = _slots_bytes(geometry, fds) + ledger_bytes(fds.lanes)
        try:
            if size > available_bytes():  # the kernel would rather kill somebody than refuse
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            # Takes the memory now: pages that are missing later are a SIGBUS, not an error.
            os.posix_fallocate(fds.fds[0], 0, size)
            return cls(geometry, fds, owns_fds=True)
        except OSError as error:
            fds.close()
            raise SettingsError(
                f"the arena of {size / 1e6:.0f} MB for {fds.lanes} sessions of {geometry} cannot "
                f"be had ({error.strerror}): lower --max-sessions or --geometry"
            ) from error

    @classmethod
    def attach(cls, description: AttachArena) -> Arena:
        """The same arena in a process that inherited its descriptors, which stay open."""
        fds = ArenaFds(
            description.lanes, description.inbox_slots, description.outbox_slots, description.fds
        )
        for fd in fds.fds:
            os.set_inheritable(fd, False)  # what this process starts must not keep the arena
        return cls(description.geometry, fds, owns_fds=False)

    def describe(self) -> AttachArena:
        """What `attach` needs to know."""
        fds = self._fds
        return AttachArena(self.geometry, fds.lanes, fds.inbox_slots, fds.outbox_slots, fds.fds)

    @property
    def fds(self) -> tuple[int, ...]:
        """What a child must inherit (`pass_fds`)."""
        return self._fds.fds

    def inbox(self, lane: int) -> Ring:
        """Camera frames: from the stream side to the worker."""
        return self._inboxes[lane]

    def outbox(self, lane: int) -> Ring:
        """Avatar frames: from the worker to the stream side."""
        return self._outboxes[lane]

    def close(self) -> None:
        """Ends the rings; the memory goes with the last view that somebody still has."""
        for ring in (*self._inboxes, *self._outboxes):
            ring.end()
        self.ledger.close()
        self.buffer = np.empty(0, np.uint8)
        if self._owns_fds:
            self._owns_fds = False
            self._fds.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _lay_out(self) -> None:
        fds, stride = self._fds, _slot_bytes(self.geometry)
        slots_of_all = self.buffer.reshape(-1, stride)[:, : self.geometry.frame_bytes]
        first_slot, first_fd = 0, 1
        for lane in range(fds.lanes):
            for rings, slots in (
                (self._inboxes, fds.inbox_slots),
                (self._outboxes, fds.outbox_slots),
            ):
                pixels = slots_of_all[first_slot : first_slot + slots]
                shaped = pixels.reshape(slots, self.geometry.rows, self.geometry.width)
                assert np.shares_memory(shaped, self.buffer)
                rings.append(Ring(lane, shaped, fds.fds[first_fd : first_fd + _FDS_A_RING]))
                first_slot += slots
                first_fd += _FDS_A_RING


def _pack(frame: FrameRef) -> bytes:
    base = frame.time_base
    return _TOKEN.pack(
        frame.slot,
        frame.lease,
        frame.sequence,
        frame.pts,
        base.numerator,
        base.denominator,
        frame.arrival_s,
    )


def _unpack(lane: int, token: bytes) -> FrameRef:
    slot, lease, sequence, pts, numerator, denominator, arrival_s = _TOKEN.unpack(token)
    base = _time_base(numerator, denominator)
    return FrameRef(lane, lease, sequence, slot, pts, base, arrival_s)


@lru_cache(maxsize=64)  # a source keeps its time base, and a Fraction costs more than the read
def _time_base(numerator: int, denominator: int) -> Fraction:
    return Fraction(numerator, denominator)


def _read(fd: int, size: int) -> bytes | None:
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None


def _ring_pipes(slots: int) -> list[int]:
    """free's two ends, with every slot in it, and ready's two."""
    fds: list[int] = []
    try:
        for _ in range(2):
            fds += os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.fcntl(fds[-1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.write(fds[1], bytes(range(slots)))
    except OSError:
        _close_all(fds)
        raise
    return fds


def _slot_bytes(geometry: Geometry) -> int:
    return -(-geometry.frame_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _slots_bytes(geometry: Geometry, fds: ArenaFds) -> int:
    return slots_bytes(geometry, fds.lanes, fds.inbox_slots, fds.outbox_slots)


def slots_bytes(
    geometry: Geometry,
    lanes: int,
    inbox_slots: int = INBOX_SLOTS,
    outbox_slots: int = OUTBOX_SLOTS,
) -> int:
    """What the slots of an arena of this shape take: the part that a device pins."""
    return lanes * (inbox_slots + outbox_slots) * _slot_bytes(geometry)


def descriptors_for(lanes: int) -> int:
    """How many a process that holds an arena needs, with whatever else it opens."""
    return 1 + lanes * 2 * _FDS_A_RING + _FDS_BESIDES + lanes * _FDS_BESIDES_A_LANE


def available_bytes() -> int:
    """What the machine could give without swapping (proc(5), MemAvailable)."""
    with Path("/proc/meminfo").open() as lines:
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kilobytes) * 1024


def _allow_descriptors(lanes: int) -> None:
    """Raises the soft limit to the hard one where so many lanes need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = descriptors_for(lanes)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise SettingsError(
                f"{lanes} sessions need {needed} descriptors and {hard} are allowed: "
                "lower --max-sessions or raise the limit (ulimit -Hn)"
            )


def _close_all(fds: Collection[int]) -> None:
    for fd in fds:
        os.close(fd)
