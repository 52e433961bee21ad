"""stream/gpu_watch.py and the supervisor: a worker whose GPU fails is started anew at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from stream import gpu_watch, nvml
from stream.gpu_watch import GpuWatch
from tests.fake_nvml import GPU, FakeGpu, gpu, needs_compiler
from tests.processes import is_gone, until
from tests.test_supervisor import Server, running
from workers.messages import Happened

__all__ = ["gpu"]  # a fixture

PID = 4242


class Heard:
    def __init__(self) -> None:
        self.told: list[Happened] = []
        self.condemned: list[str] = []

    def watch(self) -> GpuWatch:
        return GpuWatch(self.told.append, self.condemned.append)

    def kinds(self) -> list[str]:
        return [it.event_type for it in self.told]


async def left() -> None:
    await until(lambda: not [it for it in threading.enumerate() if it.name == "gpu watch"])


@needs_compiler
async def test_what_happens_to_a_gpu_is_heard_as_it_happens(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_watch, "WAIT_S", 0.02)
    monkeypatch.setattr(gpu_watch, "READ_S", 0.02)
    gpu.says(pid=PID, process=1 << 28, alone=1)
    heard = Heard()
    watch = heard.watch()
    watch.begin(GPU, PID)
    await asyncio.sleep(0.2)
    assert heard.told == []
    gpu.says(reasons=0x8)
    await until(lambda: heard.kinds() == ["gpu_throttled"])
    gpu.says(process=1 << 29)
    await until(lambda: heard.kinds()[1:] == ["memory_grew"])
    gpu.fails(63)  # harms nobody
    await until(lambda: heard.kinds()[2:] == ["gpu_fault"])
    assert heard.condemned == []
    gpu.fails(31)
    await until(lambda: heard.condemned == ["the GPU reported Xid 31 (memory page fault)"])
    watch.end()
    gpu.fails(79)
    await left()
    assert len(heard.condemned) == 1


@needs_compiler
async def test_the_error_that_a_worker_has_just_died_of_is_told_and_harms_no_other(
    gpu: FakeGpu,
) -> None:
    gpu.says(pid=PID, process=1 << 28, alone=1)
    heard = Heard()
    watch = heard.watch()
    watch.begin(GPU, PID)
    await asyncio.sleep(0.1)
    watch.end()
    gpu.fails(31)
    await until(lambda: heard.kinds() == ["gpu_fault"])
    await left()
    assert heard.condemned == []


@needs_compiler
async def test_a_gpu_that_is_gone_condemns_its_worker(gpu: FakeGpu) -> None:
    heard = Heard()
    watch = heard.watch()
    watch.begin(GPU, PID)
    await asyncio.sleep(0.05)
    gpu.says(lost=1)
    await until(lambda: heard.condemned == ["the GPU is lost (GPU is lost)"])
    await left()


@needs_compiler
async def test_where_errors_are_not_told_the_readings_still_are(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_watch, "WAIT_S", 0.02)
    gpu.says(no_events=1, reasons=0x8)
    heard = Heard()
    watch = heard.watch()
    watch.begin(GPU, PID)
    await until(lambda: heard.kinds() == ["gpu_throttled"])
    watch.end()
    await left()


async def test_without_a_driver_nothing_is_watched_and_one_debug_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nvml, "LIBRARY", str(tmp_path / "absent.so"))
    caplog.set_level(logging.DEBUG, "stream.gpu_watch")
    heard = Heard()
    watch = heard.watch()
    watch.begin(GPU, PID)
    await left()
    watch.end()
    assert heard.told == heard.condemned == []
    assert [it.levelname for it in caplog.records] == ["DEBUG"]


async def test_a_worker_without_a_gpu_has_no_watch() -> None:
    watch = Heard().watch()
    watch.begin(None, PID)
    assert not [it for it in threading.enumerate() if it.name == "gpu watch"]


class GpuServer(Server):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[Happened] = []

    def on_happened(self, worker: int, happened: Happened) -> None:
        self.told.append(happened)


@needs_compiler
async def test_a_fatal_error_of_the_gpu_restarts_its_worker_at_once(gpu: FakeGpu) -> None:
    server = GpuServer()
    async with running(server, "gpu") as supervisor:
        await until(lambda: server.ready == 1)
        first = supervisor.pid
        assert first is not None
        await asyncio.sleep(0.1)
        gpu.fails(79)
        await until(lambda: server.ready == 2)
        assert server.lost == ["the GPU reported Xid 79 (the GPU has fallen off the bus)"]
        assert [(it.event_type, it.severity) for it in server.told] == [("gpu_fault", "error")]
        assert is_gone(first) and supervisor.pid != first
        await asyncio.sleep(0.3)  # the second life does not inherit the error of the first
        assert len(server.lost) == 1
    await left()
