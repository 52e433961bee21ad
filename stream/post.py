"""Words to another process of ours, in order: what does not fit now goes when it does."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque

from workers.channel import Channel

ROOM = 4096


class Post:
    """The sending end of a channel, for one event loop. A context manager; it owns the channel.

    `send` never waits. Descriptors stay the caller's; one that must wait is held as a copy.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting = deque[tuple[object, int | None]]()

    def __enter__(self) -> Post:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._waiting:
            asyncio.get_running_loop().remove_writer(self._channel.fileno())
        for _, fd in self._waiting:
            if fd is not None:
                os.close(fd)
        self._waiting.clear()
        self._channel.close()

    def send(self, value: object, fd: int | None = None) -> bool:
        """False: the other side has not read for so long that there is no room left.

        Raises EOFError when the other side is gone.
        """
        if not self._waiting and self._goes(value, fd):
            return True
        if len(self._waiting) >= ROOM:
            return False
        if not self._waiting:
            asyncio.get_running_loop().add_writer(self._channel.fileno(), self._flush)
        self._waiting.append((value, None if fd is None else os.dup(fd)))
        return True

    def _flush(self) -> None:
        while self._waiting:
            value, fd = self._waiting[0]
            try:
                if not self._goes(value, fd):
                    return
            except EOFError:
                pass  # the other side is gone, which the receiving end finds out
            self._waiting.popleft()
            if fd is not None:
                os.close(fd)
        asyncio.get_running_loop().remove_writer(self._channel.fileno())

    def _goes(self, value: object, fd: int | None) -> bool:
        try:
            return self._channel.send(value, fd)
        except OSError as error:
            # Too many descriptors are under way: the other side takes them soon.
            if error.errno == errno.ETOOMANYREFS:
                return False
            raise
