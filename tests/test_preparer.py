"""The preparer, as a process: portraits in, identities out, and no request left unanswered."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from workers.channel import Channel
from workers.errors import ModelError
from workers.geometry import Geometry
from workers.identity import load_identity, save_identity
from workers.models.api import Tensors
from workers.preparer_messages import PortraitSize, Prepare, Prepared, PrepareFailed

TIMEOUT_S = 30.0
SIZE = Geometry(32, 16)
MODULE = """
import torch
from workers.models.api import AvatarModel

class Colour(AvatarModel):
    def identity(self, portrait):
        assert portrait.dtype == torch.float32 and portrait.shape[0] == 3
        size = torch.tensor(portrait.shape[1:])
        return {"colour": portrait.mean((1, 2)), "size": size, "size again": size}

class Green(Colour):
    def default_portrait(self):
        return torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 20, 20)

class Fails(AvatarModel):
    def identity(self, portrait):
        raise RuntimeError("no face\\nfound")

class Lost(AvatarModel):
    def identity(self, portrait):
        return {"colour": portrait.mean((1, 2)) / 0}

class Wrong(AvatarModel):
    def identity(self, portrait):
        return portrait
"""


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    channel: Channel
    lifeline: int

    def ask(
        self, request: int, model: str, portrait: PortraitSize | None = None, data: bytes = b""
    ) -> None:
        fd = os.memfd_create("portrait") if portrait else None
        try:
            if fd is not None:
                os.write(fd, data)
            assert self.channel.send(Prepare(request, model, SIZE, portrait), fd)
        finally:
            if fd is not None:
                os.close(fd)

    def answer(self) -> tuple[object, Tensors | None]:
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        assert poll.poll(TIMEOUT_S * 1000), "the preparer did not answer"
        received = self.channel.receive()
        assert received is not None
        value, fd = received
        return value, None if fd is None else load_identity(fd)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    here = tmp_path_factory.mktemp("models")
    (here / "portraits.py").write_text(MODULE)
    yield from start(here)


def start(here: Path) -> Iterator[Running]:
    ours, theirs = Channel.pair()
    read, write = os.pipe()
    paths = [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "workers.preparer"),
            *("--socket", str(theirs.fileno()), "--alive", str(read)),
        ],
        pass_fds=(theirs.fileno(), read),
        cwd=here,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    theirs.close()
    os.close(read)
    running = Running(process, ours, write)
    try:
        yield running
    finally:
        os.close(running.lifeline)
        ours.close()
        try:
            process.wait(10)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def test_a_portrait_becomes_its_identity(running: Running) -> None:
    pixel = bytes([255, 51, 0])
    running.ask(7, "portraits:Colour", PortraitSize(40, 24), pixel * 40 * 24)
    value, identity = running.answer()
    assert value == Prepared(7)
    assert identity is not None
    assert torch.allclose(identity["colour"], torch.tensor([1.0, 0.2, 0.0]))
    assert identity["size"].tolist() == identity["size again"].tolist() == [24, 40]


def test_without_a_portrait_the_models_own_serves_or_grey(running: Running) -> None:
    running.ask(1, "portraits:Green")
    running.ask(2, "portraits:Colour")
    value, green = running.answer()
    assert value == Prepared(1) and green is not None
    assert green["colour"].tolist() == [0.0, 1.0, 0.0]
    value, grey = running.answer()
    assert value == Prepared(2) and grey is not None
    assert grey["colour"].tolist() == [0.5, 0.5, 0.5]
    assert grey["size"].tolist() == [16, 32]


def test_a_model_without_an_identity_has_an_empty_one(running: Running) -> None:
    running.ask(3, "mirror")
    assert running.answer() == (Prepared(3), {})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("portraits:Fails", "failed on the portrait: RuntimeError: no face found"),
        ("portraits:Lost", "'colour' is not finite"),
        ("portraits:Wrong", "no dict of tensors"),
        ("portraits:Nobody", "has no 'Nobody'"),
        ("nonsense", "is unknown"),
    ],
)
def test_what_goes_wrong_is_said_and_ends_that_request_alone(
    running: Running, model: str, words: str
) -> None:
    running.ask(4, model)
    value, identity = running.answer()
    assert isinstance(value, PrepareFailed)
    assert value.request == 4
    assert words in value.reason
    assert "\n" not in value.reason
    assert identity is None
    running.ask(5, "mirror")
    assert running.answer() == (Prepared(5), {})


@pytest.mark.parametrize(
    ("size", "bytes_sent", "words"),
    [
        (PortraitSize(40, 24), 40 * 24 * 3 - 1, "came as 2879 bytes, not 2880"),
        (PortraitSize(40, 24), 40 * 24 * 3 + 1, "not 2880"),
        (PortraitSize(4, 24), 4 * 24 * 3, "its sides must be"),
        (PortraitSize(10**6, 10**6), 3, "its sides must be"),
    ],
)
def test_a_portrait_that_is_not_what_it_says_is_refused(
    running: Running, size: PortraitSize, bytes_sent: int, words: str
) -> None:
    running.ask(6, "portraits:Colour", size, bytes(bytes_sent))
    value, _ = running.answer()
    assert isinstance(value, PrepareFailed)
    assert words in value.reason


def test_it_runs_nicely_and_keeps_no_descriptors(running: Running) -> None:
    for request in range(30):
        running.ask(request, "portraits:Colour", PortraitSize(16, 16), bytes(16 * 16 * 3))
        assert running.answer()[0] == Prepared(request)
    before = descriptors(running.process.pid)
    for request in range(30):
        running.ask(request, "portraits:Fails", PortraitSize(16, 16), bytes(16 * 16 * 3))
        running.answer()
        running.ask(request, "portraits:Colour", PortraitSize(16, 16), bytes(16 * 16 * 3))
        running.answer()
    assert descriptors(running.process.pid) == before
    assert os.getpriority(os.PRIO_PROCESS, running.process.pid) >= 10


def descriptors(pid: int) -> int:
    """At rest: an answer's own is closed a moment after it is here."""
    counts = []
    for _ in range(10):
        counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(0.01)
    return min(counts)


@pytest.mark.parametrize("left", ["channel", "lifeline"])
def test_it_leaves_when_the_stream_side_is_gone(tmp_path: Path, left: str) -> None:
    runs = start(tmp_path)
    running = next(runs)
    running.ask(1, "mirror")
    assert running.answer()[0] == Prepared(1)
    if left == "channel":
        running.channel.close()
    else:
        os.close(running.lifeline)
        running.lifeline = os.dup(0)
    assert running.process.wait(5) == 0
    runs.close()  # type: ignore[attr-defined]  # a generator


def test_an_identity_can_be_read_again_and_again_by_whoever_has_it() -> None:
    rows = {"a": torch.rand(3, 4), "b": torch.arange(5), "c": torch.tensor(True)}
    fd = save_identity(rows)
    for _ in range(2):
        read = load_identity(os.dup(fd))  # one offset, shared by all copies
        assert set(read) == set(rows)
        assert all(torch.equal(read[name], rows[name]) for name in rows)
        assert read["b"].dtype == torch.int64
    os.close(fd)


def test_an_identity_that_is_none_is_refused_and_its_descriptor_closed() -> None:
    fd = os.memfd_create("nonsense")
    os.write(fd, b"nonsense")
    with pytest.raises(ModelError, match="cannot be read"):
        load_identity(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
