"""The memory of this process, watched: what it is at one instant, and whether it grew."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import torch

from workers.messages import Happened, MemoryReport

KEPT_BATCHES = 512
# One of the allocator's small segments, the least that it takes: so that rounding refuses nothing
# that was there before.
FUSE_HEADROOM_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Memory at one instant: the CUDA allocator's counts, or, without CUDA, the process's RSS.

    The counters of device allocations, retries and out-of-memory errors only ever rise.
    """

    taken_s: float
    rss_bytes: int | None = None
    allocated_bytes: int | None = None
    allocated_peak_bytes: int | None = None
    reserved_bytes: int | None = None
    reserved_peak_bytes: int | None = None
    segments: int | None = None
    device_allocations: int | None = None
    alloc_retries: int | None = None
    out_of_memory: int | None = None


class Probe(Protocol):
    def sample(self) -> MemorySample:
        """Cheap: it is taken before and after every batch."""

    def settle(self) -> MemorySample:
        """The baseline; peaks count from here."""

    def fuse(self, baseline: MemorySample) -> None:
        """From here on growth is an out-of-memory error, where the device can be told so."""

    def report(self, baseline: MemorySample | None) -> MemoryReport:
        """Everything there is to say; once a second."""

    def close(self) -> None: ...


class ProcessProbe:
    """The process's resident set, from /proc/self/statm (proc(5))."""

    def __init__(self) -> None:
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def rss_bytes(self) -> int:
        return int(os.pread(self._statm, 128, 0).split()[1]) * self._page_bytes

    def sample(self) -> MemorySample:
        return MemorySample(taken_s=monotonic(), rss_bytes=self.rss_bytes())

    def settle(self) -> MemorySample:
        return self.sample()

    def fuse(self, baseline: MemorySample) -> None:
        pass  # the kernel has no such limit that would not kill us

    def report(self, baseline: MemorySample | None) -> MemoryReport:
        return MemoryReport(rss_bytes=self.rss_bytes())

    def close(self) -> None:
        os.close(self._statm)


class CudaProbe:
    """The CUDA caching allocator's counters."""

    def __init__(self, device: torch.device) -> None:
        # The fuse takes no device without a number.
        self._device = torch.device("cuda", device.index or 0)
        self._process = ProcessProbe()

    def sample(self) -> MemorySample:
        # The nested dict costs 12 µs; `memory_stats` flattens it for 76, and `memory_allocated`
        # calls that.
        stats = torch.cuda.memory_stats_as_nested_dict(self._device)
        allocated, reserved = stats["allocated_bytes"]["all"], stats["reserved_bytes"]["all"]
        return MemorySample(
            taken_s=monotonic(),
            allocated_bytes=allocated["current"],
            allocated_peak_bytes=allocated["peak"],
            reserved_bytes=reserved["current"],
            reserved_peak_bytes=reserved["peak"],
            segments=stats["segment"]["all"]["current"],
            device_allocations=stats["num_device_alloc"],
            alloc_retries=stats["num_alloc_retries"],
            out_of_memory=stats["num_ooms"],
        )

    def settle(self) -> MemorySample:
        torch.cuda.reset_peak_memory_stats(self._device)
        return self.sample()

    def fuse(self, baseline: MemorySample) -> None:
        assert baseline.reserved_bytes is not None
        _, size = torch.cuda.mem_get_info(self._device)
        properties = torch.cuda.get_device_properties(self._device)
        fraction = fuse_fraction(baseline.reserved_bytes, size, int(properties.total_memory))
        torch.cuda.set_per_process_memory_fraction(fraction, self._device)

    def report(self, baseline: MemorySample | None) -> MemoryReport:
        now = self.sample()
        free, size = torch.cuda.mem_get_info(self._device)
        return MemoryReport(
            rss_bytes=self._process.rss_bytes(),
            allocated_bytes=now.allocated_bytes,
            allocated_peak_bytes=now.allocated_peak_bytes,
            reserved_bytes=now.reserved_bytes,
            reserved_peak_bytes=now.reserved_peak_bytes,
            segments=now.segments,
            baseline_allocated_bytes=baseline.allocated_bytes if baseline else None,
            baseline_reserved_bytes=baseline.reserved_bytes if baseline else None,
            new_device_allocations=_more(now, baseline),
            alloc_retries=now.alloc_retries,
            out_of_memory=now.out_of_memory,
            device_free_bytes=free,
            device_size_bytes=size,
        )

    def close(self) -> None:
        # Not for this process's engines to come; where the device is lost there are none.
        with suppress(RuntimeError):
            torch.cuda.set_per_process_memory_fraction(1.0, self._device)
        self._process.close()


def fuse_fraction(reserved_bytes: int, *device_bytes: int) -> float:
    """What part of the device the allocator may reserve, so that it gets nothing new.

    device_bytes: the device's size, as each of those says it who may be asked; the smallest
    counts, so that what already ran is never refused for a difference between them.
    """
    return min((reserved_bytes + FUSE_HEADROOM_BYTES) / min(device_bytes), 1.0)


def probe_for(device: torch.device) -> Probe:
    return CudaProbe(device) if device.type == "cuda" else ProcessProbe()


class GrowthWatch:
    """Tells of every growth of the device's memory over the baseline, once, at once.

    A process's RSS is no such promise: it breathes, and shows as a slope over minutes instead.
    """

    def __init__(self, baseline: MemorySample) -> None:
        self._told_allocations = baseline.device_allocations or 0
        self._told_reserved = baseline.reserved_bytes or 0
        self._baseline = baseline

    def observe(self, sample: MemorySample) -> Happened | None:
        allocations, reserved = sample.device_allocations or 0, sample.reserved_bytes or 0
        new = allocations - self._told_allocations
        grown = reserved - self._told_reserved
        if new <= 0 and grown <= 0:
            return None
        self._told_allocations = max(allocations, self._told_allocations)
        self._told_reserved = max(reserved, self._told_reserved)
        return Happened(
            "memory_grew",
            "error",
            f"worker took {max(new, 0)} new device allocations, "
            f"{max(grown, 0)} bytes more are reserved",
            {
                "new_device_allocations": allocations - (self._baseline.device_allocations or 0),
                "reserved_bytes": reserved,
                "baseline_reserved_bytes": self._baseline.reserved_bytes or 0,
            },
        )


def _more(now: MemorySample, baseline: MemorySample | None) -> int:
    before = baseline.device_allocations if baseline else 0
    return (now.device_allocations or 0) - (before or 0)
