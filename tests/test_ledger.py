"""The ledger: whole tallies, whoever dies, and nought for the next."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from workers.ledger import Ledger, ledger_bytes
from workers.messages import Tally

LANES = 3


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("ledger")
    os.ftruncate(fd, ledger_bytes(LANES))
    yield fd
    os.close(fd)


def test_another_mapping_reads_what_was_written_last(fd: int) -> None:
    writer, reader = Ledger(fd, 0, LANES), Ledger(fd, 0, LANES)
    writer.write({0: Tally(arrived=1, waiting=1), 2: Tally(*range(10))})
    writer.write({0: Tally(arrived=2, batched=2, in_flight=2)})
    assert reader.take() == {0: Tally(arrived=2, batched=2, in_flight=2), 2: Tally(*range(10))}


def test_what_was_taken_is_gone_for_the_next_worker(fd: int) -> None:
    ledger = Ledger(fd, 0, LANES)
    ledger.write({1: Tally(arrived=1, waiting=1)})
    ledger.take()
    assert ledger.take() == {}
    ledger.write({1: Tally(arrived=5, late=5)})
    assert ledger.take() == {1: Tally(arrived=5, late=5)}


WRITER = """
import sys
from itertools import count
from workers.ledger import Ledger
from workers.messages import Tally
ledger = Ledger(int(sys.argv[1]), 0, 3)
print("writing", flush=True)
for n in count(1):
    ledger.write({lane: Tally(*[n] * 10) for lane in range(3)})
"""


def test_no_tally_is_torn_when_its_writer_is_killed_anywhere(fd: int) -> None:
    ledger, chance = Ledger(fd, 0, LANES), random.Random(7)
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(fd)], pass_fds=(fd,), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        time.sleep(chance.uniform(0.001, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        taken = ledger.take()
        assert taken
        for tally in taken.values():
            assert tally == Tally(*[tally.arrived] * 10)
