"""This process's heap, kept small while sessions come and go."""

from __future__ import annotations

import ctypes
import gc

ARENA_MAX, MMAP_THRESHOLD = -8, -3  # mallopt(3)
ARENAS = 2
LARGE_BYTES = 128 * 1024


def keep_small() -> None:
    """Two arenas for all threads; call it before any is started. Nothing happens without glibc.

    glibc gives each new thread one of 8 arenas a core, and what a session's codecs freed in one
    serves only whoever meets that arena again: the process grew for hundreds of sessions. It also
    stops to map large blocks by themselves once one was freed, and then a codec's tables stay in
    the heap as holes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(ARENA_MAX, ARENAS)
        mallopt(MMAP_THRESHOLD, LARGE_BYTES)


def settle() -> None:
    """What start-up made stays: from here on `collect` looks at what sessions made alone."""
    gc.collect()
    gc.freeze()


def collect() -> None:
    """What a closed connection left: it is full of cycles, and some hold a codec's buffers.

    3 ms after one session. Python itself waits until a quarter as much lies about as start-up
    made, which was 20 MB and hundreds of sessions.
    """
    gc.collect()
