"""workers.memory: what is told of it, and when."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, perf_counter

import pytest
import torch

from workers.memory import (
    FUSE_HEADROOM_BYTES,
    GrowthWatch,
    MemorySample,
    ProcessProbe,
    fuse_fraction,
    probe_for,
)


def cuda_sample(device_allocations: int, reserved_bytes: int) -> MemorySample:
    return MemorySample(
        taken_s=0.0,
        allocated_bytes=1,
        reserved_bytes=reserved_bytes,
        device_allocations=device_allocations,
    )


def test_without_cuda_the_probe_tells_the_process_s_rss_and_nothing_else() -> None:
    probe = probe_for(torch.device("cpu"))
    before_s = monotonic()
    sample = probe.sample()
    assert before_s <= sample.taken_s <= monotonic()
    status = Path("/proc/self/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert sample.rss_bytes == pytest.approx(rss * 1024, rel=0.05)
    report = probe.report(probe.settle())
    assert report.rss_bytes == pytest.approx(rss * 1024, rel=0.05)
    for name in ("allocated_bytes", "reserved_bytes", "new_device_allocations", "out_of_memory"):
        assert getattr(report, name) is None
    probe.close()


def test_the_rss_grows_with_what_is_touched() -> None:
    probe = ProcessProbe()
    before = probe.rss_bytes()
    held = bytearray(b"x" * 50_000_000)
    assert 45e6 < probe.rss_bytes() - before < 120e6
    del held
    probe.close()


def test_a_sample_costs_next_to_nothing() -> None:
    probe = ProcessProbe()
    fastest_s = 1.0
    for _ in range(20):
        began_s = perf_counter()
        for _ in range(50):
            probe.sample()
        fastest_s = min(fastest_s, (perf_counter() - began_s) / 50)
    assert fastest_s < 50e-6  # two of them: below 1 % of a batch of 10 ms
    probe.close()


def test_growth_is_told_at_once_and_only_once() -> None:
    watch = GrowthWatch(cuda_sample(42, 1000))
    assert watch.observe(cuda_sample(42, 1000)) is None
    grown = watch.observe(cuda_sample(44, 3000))
    assert grown is not None
    assert (grown.event_type, grown.severity) == ("memory_grew", "error")
    assert "2 new device allocations, 2000 bytes more" in grown.message
    assert grown.data["new_device_allocations"] == 2
    assert watch.observe(cuda_sample(44, 3000)) is None
    again = watch.observe(cuda_sample(45, 3000))
    assert again is not None and "1 new device allocations, 0 bytes" in again.message
    assert again.data["new_device_allocations"] == 3  # over the baseline


def test_reserved_memory_that_grows_without_a_new_allocation_is_told_too() -> None:
    # Expandable segments grow in place.
    grown = GrowthWatch(cuda_sample(42, 1000)).observe(cuda_sample(42, 1001))
    assert grown is not None and grown.data["reserved_bytes"] == 1001


def test_memory_that_was_given_back_is_no_growth_until_it_passes_the_mark() -> None:
    watch = GrowthWatch(cuda_sample(42, 1000))
    assert watch.observe(cuda_sample(42, 400)) is None
    assert watch.observe(cuda_sample(42, 1000)) is None


def test_a_process_s_rss_is_no_promise() -> None:
    watch = GrowthWatch(MemorySample(taken_s=0.0, rss_bytes=1))
    assert watch.observe(MemorySample(taken_s=1.0, rss_bytes=10**9)) is None


def test_the_fuse_leaves_what_is_reserved_and_no_room_for_more() -> None:
    size = 80 << 30
    for reserved in (0, 1, 300 << 20, 7 << 30):
        allowed = int(fuse_fraction(reserved, size) * size)  # as the allocator cuts it off
        assert reserved <= allowed <= reserved + FUSE_HEADROOM_BYTES
    # Where two say different sizes, what is reserved fits by either.
    smaller = size - (200 << 20)
    assert int(fuse_fraction(7 << 30, size, smaller) * smaller) >= 7 << 30
    assert fuse_fraction(size, size) == 1.0


def test_a_process_has_no_fuse() -> None:
    probe = probe_for(torch.device("cpu"))
    probe.fuse(probe.settle())
    assert probe.sample().rss_bytes
    probe.close()
