"""A child leaves when its parent is gone, however the parent went."""

from __future__ import annotations

import os
import threading


def leave_with_parent(fd: int) -> None:
    """Ends this process with exit code 0 within milliseconds of the parent's end.

    fd: the inherited read end of a pipe whose only write end the parent holds, and never writes
    to. Not PR_SET_PDEATHSIG: that one goes by the thread that started us, not by the process.
    Only C code that keeps the GIL can delay the end. Raises OSError when fd is not open.
    """
    os.set_inheritable(fd, False)
    os.set_blocking(fd, True)
    threading.Thread(target=_wait, args=(fd,), name="leave-with-parent", daemon=True).start()


def _wait(fd: int) -> None:
    while os.read(fd, 512):
        pass
    # Not sys.exit: it ends a thread only, and tidying could hang on a peer that is gone.
    os._exit(0)
