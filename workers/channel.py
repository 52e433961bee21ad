"""The line between the stream side and a worker: small values, at most one descriptor beside each.

Both ends are ours, and one started the other, so the values travel pickled.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import socket
import struct
import time
from types import TracebackType
from typing import Self

MOST_BYTES = 60 * 1024
"""The largest message, pickled."""

_FD = struct.Struct("i")
_ROOM_BYTES = 4 * MOST_BYTES  # what may wait unread, at least


class Channel:
    """One end of a SOCK_SEQPACKET socket pair. A context manager; never blocks unless asked to."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)
        self._sock = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two ends of a new line, both close-on-exec."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    @classmethod
    def from_fd(cls, fd: int) -> Channel:
        """The end that was inherited as `fd`, which is owned from here on."""
        os.set_inheritable(fd, False)
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """Readable when `receive` has something to say."""
        return self._sock.fileno()

    def send(self, value: object, fd: int | None = None, timeout_s: float | None = None) -> bool:
        """Whether the value is on its way, whole; False: the peer has too much unread.

        fd: a descriptor that the peer gets a copy of. timeout_s: how long to wait for room; by
        default not at all. Raises EOFError when the peer is gone, and ValueError when the value
        is larger than MOST_BYTES.
        """
        message = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if len(message) > MOST_BYTES:
            raise ValueError(
                f"a message of {len(message)} bytes ({type(value).__name__}) is too large for the "
                f"channel: {MOST_BYTES} is the most, pass a memfd beside it"
            )
        if self._try_send(message, fd):
            return True
        deadline_s = time.monotonic() + (timeout_s or 0.0)
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._wait_for_room(left_s)
            if self._try_send(message, fd):
                return True
        return False

    def receive(self) -> tuple[object, int | None] | None:
        """The next value and the descriptor beside it, which is the caller's; None: nothing there.

        The descriptor is close-on-exec. Raises EOFError when the peer is gone and all it said
        has been received, and OSError (EMFILE) when there was no room for a descriptor.
        """
        try:
            message, fd, flags = self._read()
        except BlockingIOError:
            return None
        # Linux has no other sign of the end here; a pickled value is never empty.
        if not message:
            raise EOFError("the peer is gone")
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, "a descriptor beside a message could not be received")
        return pickle.loads(message), fd

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _try_send(self, message: bytes, fd: int | None) -> bool:
        beside = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(fd))]
        try:
            self._sock.sendmsg((message,), beside)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError("the peer is gone") from error
        return True

    def _wait_for_room(self, left_s: float) -> None:
        poll = select.poll()  # not select(): descriptors beyond 1023 are usual here
        poll.register(self._sock, select.POLLOUT)
        # The kernel says "room" at three quarters free; a small message may fit long before.
        poll.poll(min(left_s, 0.02) * 1000)

    def _read(self) -> tuple[bytes, int | None, int]:
        try:
            message, beside, flags, _ = self._recvmsg()
        except ConnectionResetError:
            # The peer left with our words unread. That is said once, before what it said last.
            message, beside, flags, _ = self._recvmsg()
        fds = [_FD.unpack(data)[0] for _, _, data in beside]
        return message, (fds[0] if fds else None), flags

    def _recvmsg(self) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        # Not socket.recv_fds: in Python 3.11 it drops the flags, and with them close-on-exec.
        return self._sock.recvmsg(MOST_BYTES, socket.CMSG_LEN(_FD.size), socket.MSG_CMSG_CLOEXEC)
