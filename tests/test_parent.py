"""A child leaves with its parent, whatever it is doing and however the parent went."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from workers.parent import leave_with_parent

ROOT = Path(__file__).parent.parent

CHILD = """
import os, sys, time
from workers.parent import leave_with_parent
leave_with_parent(int(sys.argv[1]))
print("begun", os.getpid(), flush=True)
{work}
"""
BUSY = "while True: sum(range(100))"
ASLEEP = "time.sleep(60)"
HIDING = """
try:
    time.sleep(60)
finally:
    time.sleep(60)
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with suppress(OSError):
            os.close(fd)


@contextmanager
def child(work: str, fd: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(work=work), str(fd)],
        pass_fds=[fd],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    return process.stdout.readline()


@pytest.mark.parametrize("work", [BUSY, ASLEEP, HIDING], ids=["busy", "asleep", "hiding"])
def test_a_child_leaves_at_once_when_the_pipe_ends(work: str, pipe: tuple[int, int]) -> None:
    with child(work, pipe[0]) as process:
        assert line(process).startswith(b"begun")
        time.sleep(0.1)
        assert process.poll() is None, "it stays while the parent is there"
        ended_s = time.monotonic()
        os.close(pipe[1])
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - ended_s < 1.0


def test_a_child_that_comes_too_late_leaves_at_once(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    with child(BUSY, pipe[0]) as process:
        assert process.wait(timeout=10) == 0


def test_a_grandchild_is_gone_when_the_parent_is_killed() -> None:
    parent_code = f"""
import os, subprocess, sys, time
out, into = os.pipe()
subprocess.Popen(
    [sys.executable, "-c", {CHILD.format(work=BUSY)!r}, str(out)], pass_fds=[out]
)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", parent_code], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        grandchild = os.pidfd_open(int(line(parent).split()[1]))
        try:
            parent.kill()
            # Readable once the process has ended.
            assert select.select([grandchild], [], [], 1.0)[0], "it outlived its parent"
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(grandchild, signal.SIGKILL)
            os.close(grandchild)


def test_the_pipe_is_not_handed_on(pipe: tuple[int, int]) -> None:
    work = "print(os.get_inheritable(int(sys.argv[1])), flush=True)\n" + ASLEEP
    with child(work, pipe[0]) as process:
        assert line(process).startswith(b"begun")
        assert line(process) == b"False\n"


def test_a_descriptor_that_is_not_open_is_an_error_at_once(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(OSError):
        leave_with_parent(pipe[0])
