"""The seam below the engine: in what order copies and steps run on a device.

Three queues: frames go up, the step runs, frames come down. Each is in order by itself; between
them, and before the host touches what they wrote, only a recorded moment that is waited for
orders anything. The engine speaks these few verbs alone, so the same schedule runs one thing
after another on a CPU, on streams with CUDA, and under a checker of its waits in the tests.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

log = logging.getLogger(__name__)

DEPTH = 2  # batches in flight, and so many sets of transfer buffers

CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, the one CUDA error that a process survives
# CUDA's libraries and kernels from elsewhere tell of it by a RuntimeError like any other.
OF_CUDA = re.compile(
    r"CUDA (driver )?error|cu(DNN|BLAS|FFT|SOLVER|SPARSE) error|CU(DNN|BLAS)_STATUS_"
    r"|Triton Error \[CUDA\]",
    re.IGNORECASE,
)
NO_MEMORY = re.compile(r"out of memory|_ALLOC_FAILED", re.IGNORECASE)


class Queue(Enum):
    UP = "up"  # slots to the device
    STEP = "step"  # the model and all beside it
    DOWN = "down"  # the device to slots


class Moment(Enum):
    """What can be recorded in a queue and waited for; once for each of the DEPTH buffers."""

    UP_BEGAN = "up began"
    UP_ENDED = "up ended"
    STEP_BEGAN = "step began"
    STEP_ENDED = "step ended"
    DOWN_BEGAN = "down began"
    DOWN_ENDED = "down ended"
    BANKS_WRITTEN = "banks written"


Copies = Iterable[tuple[Tensor, Tensor]]  # from, to
Step = Callable[[int], None]  # runs a batch of the given size in the fixed buffers


class Seam(Protocol):
    """What the engine asks of a device. A context manager: outside it nothing may run."""

    doorbell_fd: int | None
    """Readable while something published is not yet taken; None where `run` waits by itself."""

    in_order: bool
    """Each call has happened when it returns, so frames need no buffers of their own to travel."""

    def __enter__(self) -> Seam: ...
    def __exit__(self, *_: object) -> None: ...

    def host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Zeroed host memory that the device copies from and to without a stage of its own."""

    def adopt(self, memory: NDArray[np.uint8] | None) -> bool:
        """Whether the device copies straight from and to this memory from now on; None: any."""

    def copy(self, queue: Queue, copies: Copies) -> None: ...
    def record(self, queue: Queue, moment: Moment, buffer: int) -> None: ...
    def wait(self, queue: Queue, moment: Moment, buffer: int) -> None:
        """What is put into the queue from here on runs after the moment recorded last."""

    def host_wait(self, moment: Moment, buffer: int) -> None: ...
    def in_step(self) -> AbstractContextManager[object]:
        """Tensor operations inside it go into the STEP queue."""

    def run(self, size: int, step: Step) -> None:
        """The step at this size, in the STEP queue: replayed where it was captured."""

    def capture(self, sizes: Iterable[int], step: Step) -> None:
        """Records the step once for each size; largest first, all in one pool."""

    def publish(self, buffer: int) -> None:
        """Rings the doorbell, in order, when DOWN_ENDED of this buffer has come."""

    def take_published(self) -> bool:
        """Whether one more of the published has come; each answers True once.

        Raises what the device raised meanwhile, of which no process recovers.
        """

    def elapsed_ms(self, since: Moment, until: Moment, buffer: int) -> float:
        """Between two moments that have come."""


class Serial:
    """A CPU: everything has happened when the call returns."""

    doorbell_fd: int | None = None
    in_order = True

    def __init__(self) -> None:
        self._at_s: dict[tuple[Moment, int], float] = {}
        self._published = 0

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    def adopt(self, memory: NDArray[np.uint8] | None) -> bool:
        return True

    def copy(self, queue: Queue, copies: Copies) -> None:
        for source, target in copies:
            target.copy_(source)

    def record(self, queue: Queue, moment: Moment, buffer: int) -> None:
        self._at_s[moment, buffer] = monotonic()

    def wait(self, queue: Queue, moment: Moment, buffer: int) -> None:
        pass

    def host_wait(self, moment: Moment, buffer: int) -> None:
        pass

    def in_step(self) -> AbstractContextManager[object]:
        return nullcontext()

    def run(self, size: int, step: Step) -> None:
        step(size)

    def capture(self, sizes: Iterable[int], step: Step) -> None:
        raise AssertionError("a CPU has no graphs")

    def publish(self, buffer: int) -> None:
        self._published += 1

    def take_published(self) -> bool:
        if not self._published:
            return False
        self._published -= 1
        return True

    def elapsed_ms(self, since: Moment, until: Moment, buffer: int) -> float:
        return (self._at_s[until, buffer] - self._at_s[since, buffer]) * 1e3


class Cuda:
    """A CUDA device: three streams, blocking events, one pool of graphs, a thread that waits."""

    in_order = False

    def __init__(self, device: torch.device) -> None:
        self._device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(self._device)
        torch.backends.cudnn.benchmark = True  # shapes are few and fixed: tune each once
        self._streams = {
            queue: torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch's
            for queue in Queue
        }
        # Made once: destroying an event can block. `torch.Event(blocking=True)` would spin.
        self._events = {
            (moment, buffer): torch.cuda.Event(  # type: ignore[no-untyped-call]  # torch's
                enable_timing=True, blocking=True
            )
            for moment in Moment
            for buffer in range(DEPTH)
        }
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._adopted: list[int] = []
        self._awaited: SimpleQueue[int | None] = SimpleQueue()
        self._waiter = threading.Thread(target=self._ring_for_each, name="doorbell", daemon=True)
        self._failure: BaseException | None = None
        self._is_lost = False  # nothing more may be asked of the device
        self.doorbell_fd: int | None = None

    def __enter__(self) -> Cuda:
        # A semaphore: each read takes one of what was published.
        self.doorbell_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._waiter.start()
        # The buffers were made in the default stream, which ours do not wait for.
        torch.cuda.synchronize(self._device)
        return self

    def __exit__(self, *reason: object) -> None:
        self._awaited.put(None)
        self._waiter.join()
        fatal = any(isinstance(it, BaseException) and is_fatal(it) for it in reason)
        # On a lost device every call raises, and would hide what we are leaving for.
        if not (fatal or self._is_lost or self._failure):
            torch.cuda.synchronize(self._device)
            self._graphs.clear()
            # Unmapping does not unregister, and the address could then never be registered again.
            for address in self._adopted:
                _cudart().cudaHostUnregister(address)
        self._adopted.clear()
        assert self.doorbell_fd is not None
        os.close(self.doorbell_fd)
        self.doorbell_fd = None

    def host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def adopt(self, memory: NDArray[np.uint8] | None) -> bool:
        if memory is None:
            return False
        address = memory.ctypes.data
        portable = 1  # cudaHostRegisterPortable
        code = int(_cudart().cudaHostRegister(address, memory.nbytes, portable))
        if code == 0:
            self._adopted.append(address)
            return True
        # The runtime remembers the error and blames the next launch for it: give it one.
        with suppress(RuntimeError):
            torch.zeros(1, device=self._device).add_(1)
        log.warning(
            "the arena cannot be registered, so frames pass a pinned stage: cuda_error=%d", code
        )
        return False

    def copy(self, queue: Queue, copies: Copies) -> None:
        with torch.cuda.stream(self._streams[queue]):
            for source, target in copies:
                target.copy_(source, non_blocking=True)

    def record(self, queue: Queue, moment: Moment, buffer: int) -> None:
        self._events[moment, buffer].record(self._streams[queue])

    def wait(self, queue: Queue, moment: Moment, buffer: int) -> None:
        self._streams[queue].wait_event(self._events[moment, buffer])

    def host_wait(self, moment: Moment, buffer: int) -> None:
        self._events[moment, buffer].synchronize()

    def in_step(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._streams[Queue.STEP])

    def run(self, size: int, step: Step) -> None:
        with self.in_step():
            graph = self._graphs.get(size)
            if graph is None:
                step(size)
            else:
                graph.replay()

    def capture(self, sizes: Iterable[int], step: Step) -> None:
        pool = torch.cuda.graph_pool_handle()
        gc.collect()
        gc.freeze()  # collections during a capture walk all of torch otherwise
        try:
            for size in sorted(sizes, reverse=True):  # ascending, the pool would hold the sum
                graph = torch.cuda.CUDAGraph()
                # Without the stream, capture takes one of its own, which warm-up has not seen.
                with torch.cuda.graph(
                    graph,
                    pool=pool,
                    stream=self._streams[Queue.STEP],
                    capture_error_mode="thread_local",
                ):
                    step(size)
                self._graphs[size] = graph
        except BaseException:
            self._is_lost = True  # its pool leaks, and the stream may still be capturing
            raise
        finally:
            gc.unfreeze()
            gc.collect()

    def publish(self, buffer: int) -> None:
        self._awaited.put(buffer)

    def take_published(self) -> bool:
        assert self.doorbell_fd is not None
        try:
            os.eventfd_read(self.doorbell_fd)
        except BlockingIOError:
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def elapsed_ms(self, since: Moment, until: Moment, buffer: int) -> float:
        return float(self._events[since, buffer].elapsed_time(self._events[until, buffer]))

    def _ring_for_each(self) -> None:
        assert self.doorbell_fd is not None
        while (buffer := self._awaited.get()) is not None:
            try:
                self.host_wait(Moment.DOWN_ENDED, buffer)
            except BaseException as failure:  # handed to the loop, whose process it ends
                self._failure = failure
                os.eventfd_write(self.doorbell_fd, 1)
                return
            os.eventfd_write(self.doorbell_fd, 1)


def _cudart() -> Any:  # Any: torch binds the runtime without types
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]  # torch's


def seam_for(device: torch.device) -> Seam:
    return Cuda(device) if device.type == "cuda" else Serial()


def name_of(device: torch.device) -> tuple[str, str | None]:
    """The device's name, and its UUID where it has one."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return properties.name, f"GPU-{properties.uuid}"
    with Path("/proc/cpuinfo").open() as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names, "CPU"), None


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, torch.AcceleratorError):
        return getattr(error, "error_code", None) == CUDA_OUT_OF_MEMORY
    # A CPU's allocator and CUDA's libraries have no class of their own for it.
    return "DefaultCPUAllocator: can't allocate" in str(error) or (
        _is_of_cuda(error) and NO_MEMORY.search(str(error)) is not None
    )


def is_fatal(error: BaseException) -> bool:
    """Whether the process is lost: every CUDA error but out of memory stays for good."""
    told_by_cuda = isinstance(error, torch.AcceleratorError) or _is_of_cuda(error)
    return told_by_cuda and not is_out_of_memory(error)


def _is_of_cuda(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and OF_CUDA.search(str(error)) is not None
