"""A child process of ours: started with a lifeline, heard by line, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

LINE_BYTES = 4096
LINES_PER_S = 100


class RestartBudget:
    """How often a child may be started again: `limit` times within `window_s`."""

    def __init__(self, limit: int, window_s: float = 60.0) -> None:
        self._window_s = window_s
        self._spent: deque[float] = deque()
        self._limit = limit

    def spend(self, now_s: float) -> bool:
        """One restart; False when it would be one too many."""
        while self._spent and self._spent[0] <= now_s - self._window_s:
            self._spent.popleft()
        if len(self._spent) >= self._limit:
            return False
        self._spent.append(now_s)
        return True


class LineBudget:
    """What a talkative model prints must not fill the disk: so many lines a second, and a count."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._since_s = float("-inf")
        self._told = 0
        self._left_out = 0

    def may_tell(self, now_s: float) -> bool:
        """Whether a line may be told at this instant; else it is counted."""
        if now_s - self._since_s >= 1.0:
            self._since_s, self._told = now_s, 0
        self._told += 1
        if self._told > self._per_s:
            self._left_out += 1
            return False
        return True

    def take_left_out(self) -> int:
        """How many were not told since the last call."""
        left_out, self._left_out = self._left_out, 0
        return left_out


class Child:
    """A running child. It holds the read end of a pipe, `--alive FD`, whose write end only this
    process has: its end of file says that we are gone, however we went.

    What it prints goes to the log, line by line.
    """

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, lifeline_fd: int, output_fd: int
    ) -> None:
        self._name = name
        self._process = process
        self._lifeline_fd = lifeline_fd
        self._output_fd: int | None = output_fd
        self._line = b""
        self._lines = LineBudget(LINES_PER_S)
        os.set_blocking(output_fd, False)
        asyncio.get_running_loop().add_reader(output_fd, self._hear)

    @classmethod
    async def start(
        cls,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        *,
        pass_fds: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Runs `python -m module --alive FD arguments`; `pass_fds` keep their numbers there.

        `environment` comes on top of our own. Raises OSError.
        """
        alive_fd, lifeline_fd = os.pipe()
        output_fd, child_output_fd = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, "--alive", str(alive_fd), *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                # A pipe of our own, so that `wait` waits for the child alone, not for the last
                # grandchild that holds the pipe.
                stdout=child_output_fd,
                stderr=child_output_fd,
                pass_fds=(alive_fd, *pass_fds),
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
                # Ctrl-C goes to the terminal's whole process group; ending children is our job.
                process_group=0,
            )  # fmt: skip
        except BaseException:
            os.close(lifeline_fd)
            os.close(output_fd)
            raise
        finally:
            os.close(alive_fd)
            os.close(child_output_fd)
        return cls(name, process, lifeline_fd, output_fd)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> str:
        """Until it is gone and waited for: how it went, in words."""
        code = await self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"left with exit code {code}"

    def signal(self, number: signal.Signals) -> None:
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def end(self, grace_s: float = 0.0) -> None:
        """SIGTERM where there is a grace, SIGKILL after it; returns once it is waited for."""
        try:
            if self.is_running and grace_s > 0:
                self.signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), grace_s)
        finally:
            self.signal(signal.SIGKILL)
            try:
                await self._process.wait()
            finally:
                self._close()

    def _close(self) -> None:
        if self._output_fd is not None:
            self._hear()
        if self._output_fd is not None:
            self._stop_hearing(self._output_fd)
        if self._lifeline_fd >= 0:
            os.close(self._lifeline_fd)
            self._lifeline_fd = -1

    def _hear(self) -> None:
        assert self._output_fd is not None
        try:
            heard = os.read(self._output_fd, 1 << 16)
        except BlockingIOError:
            return
        if not heard:
            self._stop_hearing(self._output_fd)
            return
        *lines, self._line = (self._line + heard).split(b"\n")
        if len(self._line) > LINE_BYTES:
            lines.append(self._line)
            self._line = b""
        for line in lines:
            self._tell(line)

    def _stop_hearing(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        self._output_fd = None
        self._tell(self._line)
        self._line = b""

    def _tell(self, line: bytes) -> None:
        text = line[:LINE_BYTES].decode(errors="replace").strip()
        if text and self._lines.may_tell(asyncio.get_running_loop().time()):
            if left_out := self._lines.take_left_out():
                log.warning("%s: %d lines left out", self._name, left_out)
            log.info("%s: %s", self._name, text)
