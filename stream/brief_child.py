"""A child that lives for one command: silent, out of Ctrl-C's way, and ended with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from workers.errors import WorkerLost


class BriefChild:
    """A running child of ours."""

    def __init__(self, module: str, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._module = module
        self._process = process
        self._said = said

    def wait(self) -> None:
        """Until it ends by itself. Raises WorkerLost where it did not end well."""
        if self._process.wait():
            raise self.lost()

    def lost(self) -> WorkerLost:
        """How it went, in one line; waits until it is gone."""
        code = self._process.wait()
        self._said.seek(0)
        return WorkerLost(f"{self._module} {_end_of(code)}{_last_words(self._said.read())}")


@contextmanager
def brief_child(
    module: str,
    arguments: Sequence[str],
    pass_fds: Sequence[int],
    environment: Mapping[str, str],
) -> Iterator[BriefChild]:
    """Runs `python -m module --alive FD arguments`; killed and waited for at the end.

    `environment` comes on top of our own. The end of `--alive` tells it that we are gone.
    While it runs, SIGTERM stops us as Ctrl-C does; so it is for the main thread.
    """
    alive_fd, lifeline_fd = os.pipe()
    with tempfile.TemporaryFile() as said, _sigterm_as_ctrl_c():
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "--alive", str(alive_fd), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,  # what a model prints is not for us, unless its process breaks down
                stderr=said,
                pass_fds=(alive_fd, *pass_fds),
                env=os.environ | dict(environment),
                process_group=0,  # Ctrl-C is ours to answer
            )
        except BaseException:
            os.close(lifeline_fd)
            raise
        finally:
            os.close(alive_fd)
        try:
            yield BriefChild(module, process, said)
        finally:
            process.kill()
            process.wait()
            os.close(lifeline_fd)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_of(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, as the kernel does when memory runs out: try a smaller batch"
    if code < 0:
        name = str(-code)
        with suppress(ValueError):
            name = signal.Signals(-code).name
        return f"was killed by {name}"
    return f"left with exit code {code}"


def _last_words(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return f": {lines[-1].strip()[:300]}" if lines else ""
