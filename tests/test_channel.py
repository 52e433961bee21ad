"""The channel: whole values in order, a descriptor beside them, and never a blocked loop."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.channel import MOST_BYTES, Channel
from workers.messages import Beat, OpenLane, Phase

ROOT = Path(__file__).parent.parent


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    with ours, theirs:
        yield ours, theirs


def test_values_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = [Beat(Phase.BATCH, 5.0), OpenLane(3, 7, 91, {"strength": 0.5}), None, b"", "", 0]
    assert all(ours.send(value) for value in sent)
    received = [theirs.receive() for _ in sent]
    assert [value for value, _ in filter(None, received)] == sent
    assert theirs.receive() is None
    assert theirs.send("back") and ours.receive() == ("back", None)


def test_nothing_there_is_none_at_once(ends: tuple[Channel, Channel]) -> None:
    began_s = time.monotonic()
    assert ends[1].receive() is None
    assert time.monotonic() - began_s < 0.1


def test_a_descriptor_comes_beside_its_own_value_and_is_close_on_exec(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = ends
    memfd = os.memfd_create("identity")
    os.write(memfd, b"a face")
    assert ours.send("plain") and ours.send("with", memfd) and ours.send("plain again")
    os.close(memfd)
    assert theirs.receive() == ("plain", None)
    got = theirs.receive()
    assert got and got[0] == "with" and got[1] is not None
    assert os.pread(got[1], 10, 0) == b"a face"
    assert fcntl.fcntl(got[1], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(got[1])
    assert theirs.receive() == ("plain again", None)


def test_a_full_channel_says_so_and_does_not_block(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = 0
    began_s = time.monotonic()
    while ours.send((sent, bytes(1000))):
        sent += 1
    assert time.monotonic() - began_s < 2
    assert 50 < sent < 5000
    for number in range(sent):
        received = theirs.receive()
        assert received and received[0] == (number, bytes(1000)), "nothing is lost or halved"
    assert theirs.receive() is None
    assert ours.send("room again")


def test_a_send_may_wait_for_room(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    while ours.send(bytes(1000)):
        pass
    began_s = time.monotonic()
    assert not ours.send(bytes(1000), timeout_s=0.15)
    assert 0.1 < time.monotonic() - began_s < 0.6

    reader = threading.Timer(0.1, lambda: [theirs.receive() for _ in range(20)])
    reader.start()
    assert ours.send(bytes(1000), timeout_s=5.0)
    reader.join()
    assert time.monotonic() - began_s < 2.0


def test_the_largest_message_passes_and_a_larger_one_is_refused_in_words(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = ends
    fits = bytes(MOST_BYTES - 100)
    assert ours.send(fits)
    assert theirs.receive() == (fits, None)
    with pytest.raises(ValueError, match=r"61\d\d\d bytes \(bytes\) is too large .* pass a memfd"):
        ours.send(bytes(MOST_BYTES))
    assert ours.send("still in order") and theirs.receive() == ("still in order", None)


def test_the_end_comes_after_all_that_the_peer_said(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert theirs.send("last words") and theirs.send("really")
    theirs.close()
    assert ours.receive() == ("last words", None)
    assert ours.receive() == ("really", None)
    for _ in range(2):
        with pytest.raises(EOFError):
            ours.receive()
    with pytest.raises(EOFError):
        ours.send("anyone?")


def test_a_peer_that_left_our_words_unread_is_heard_to_the_end_too(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = ends
    assert ours.send("never read") and theirs.send("last words")
    theirs.close()
    assert ours.receive() == ("last words", None)
    with pytest.raises(EOFError):
        ours.receive()


def test_a_peer_that_left_our_words_unread_ends_a_send(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert ours.send("never read")
    theirs.close()
    for _ in range(2):
        with pytest.raises(EOFError):
            ours.send("anyone?", timeout_s=1.0)


def test_a_descriptor_that_finds_no_room_is_an_error_not_a_missing_one(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = ends
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert ours.send("with", ours.fileno())
    top = os.dup(0)
    os.close(top)
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))  # no number below is free
    try:
        with pytest.raises(OSError, match="could not be received"):
            theirs.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ours.send("next") and theirs.receive() == ("next", None)


def test_a_child_inherits_an_end_and_its_death_is_seen_at_once() -> None:
    ours, theirs = Channel.pair()
    with ours:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
        )
        theirs.close()
        with Path("/dev/null").open() as nothing:
            assert ours.send(Beat(Phase.LOADING, 1.0), nothing.fileno())
        assert _wait(ours) == ((Beat(Phase.LOADING, 1.0), True, False), None)
        child.kill()
        child.wait()
        assert select.select([ours], [], [], 1.0)[0]
        with pytest.raises(EOFError):
            ours.receive()


_CHILD = """
import os, select, sys, time
from workers.channel import Channel
channel = Channel.from_fd(int(sys.argv[1]))
select.select([channel], [], [])
value, fd = channel.receive()
channel.send((value, os.read(fd, 1) == b"", os.get_inheritable(channel.fileno())))
time.sleep(30)
"""


def _wait(channel: Channel) -> tuple[object, int | None] | None:
    assert select.select([channel], [], [], 20.0)[0], "nothing came"
    return channel.receive()
