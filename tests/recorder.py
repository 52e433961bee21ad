"""A seam that runs like a CPU and finds what only luck would order on CUDA."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workers.device import Copies, Moment, Queue, Serial, Step

HOST = "host"

Clock = dict[str, int]


class Checker(Serial):
    """Runs like a CPU, and finds each pair of accesses that only luck would order on CUDA.

    Vector clocks: an actor (the host, or a queue) knows of another's operation only when it
    waited for a moment recorded after it, or was handed it by the host, as work is on enqueuing.
    """

    in_order = False

    def __init__(self, skipped: tuple[str, Moment] | None = None) -> None:
        super().__init__()
        self.races: list[str] = []
        self.seen: set[str] = set()  # who read and who wrote
        self.waited: set[tuple[str, Moment]] = set()
        self._skipped = skipped
        self._clocks: dict[str, Clock] = {HOST: {}, **{queue.value: {} for queue in Queue}}
        self._recorded: dict[tuple[Moment, int], Clock] = {}
        self._accesses: dict[int, list[tuple[str, int, bool, str]]] = {}
        self._down: deque[int] = deque()

    def touch(
        self, actor: str, name: str, reads: Iterable[Tensor] = (), writes: Iterable[Tensor] = ()
    ) -> None:
        clock = self._clocks[actor]
        clock[actor] = clock.get(actor, 0) + 1
        for tensors, is_write in ((reads, False), (writes, True)):
            for tensor in tensors:
                memory = self._accesses.setdefault(tensor.untyped_storage().data_ptr(), [])
                for other, tick, wrote, what in memory:
                    if (wrote or is_write) and other != actor and clock.get(other, 0) < tick:
                        self.races.append(f"{what} against {name}")
                memory.append((actor, clock[actor], is_write, name))
                self.seen.add(f"{actor} {'wrote' if is_write else 'read'}")

    def copy(self, queue: Queue, copies: Copies) -> None:
        self._learn(queue.value, self._clocks[HOST])
        for source, target in copies:
            self.touch(queue.value, f"{queue.value} copy", [source], [target])
            target.copy_(source)

    def run(self, size: int, step: Step) -> None:
        self._learn(Queue.STEP.value, self._clocks[HOST])
        step(size)

    def record(self, queue: Queue, moment: Moment, buffer: int) -> None:
        self._recorded[moment, buffer] = dict(self._clocks[queue.value])
        super().record(queue, moment, buffer)

    def wait(self, queue: Queue, moment: Moment, buffer: int) -> None:
        self.waited.add((queue.value, moment))
        if (queue.value, moment) != self._skipped:
            self._learn(queue.value, self._recorded.get((moment, buffer), {}))

    def host_wait(self, moment: Moment, buffer: int) -> None:
        self.waited.add((HOST, moment))
        if (HOST, moment) != self._skipped:
            self._learn(HOST, self._recorded.get((moment, buffer), {}))

    def publish(self, buffer: int) -> None:
        self._down.append(buffer)

    def take_published(self) -> bool:
        """As the doorbell's thread does it."""
        if not self._down:
            return False
        self.host_wait(Moment.DOWN_ENDED, self._down.popleft())
        return True

    def _learn(self, actor: str, clock: Clock) -> None:
        own = self._clocks[actor]
        for name, tick in clock.items():
            own[name] = max(own.get(name, 0), tick)


class Recorder(Checker):
    """A Checker that sees each operation's reads and writes by itself, of the memory it is told of.

    Whatever runs inside `step`, `in_step` or a copy belongs to that queue, but for operations on
    the host's memory alone: the host does these at once. What numpy does must be told by `touch`.
    """

    def __init__(self, skipped: tuple[str, Moment] | None = None, *, adopts: bool = True) -> None:
        super().__init__(skipped)
        self._adopts = adopts
        self._watched: set[int] = set()
        self._of_host: set[int] = set()
        self._actor = HOST
        self._kept: list[Tensor] = []  # so that no address comes twice

    def watch(self, tensors: Iterable[Tensor]) -> None:
        self._watched.update(map(_memory, tensors))

    def host_tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        tensor = super().host_tensor(shape, dtype)
        self._kept.append(tensor)
        self._of_host.add(_memory(tensor))
        self.watch([tensor])
        return tensor

    def adopt(self, memory: NDArray[np.uint8] | None) -> bool:
        return self._adopts

    def touch(
        self, actor: str, name: str, reads: Iterable[Tensor] = (), writes: Iterable[Tensor] = ()
    ) -> None:
        if actor != HOST:
            self._learn(actor, self._clocks[HOST])  # enqueued after all that the host did
        super().touch(actor, name, reads, writes)

    def copy(self, queue: Queue, copies: Copies) -> None:
        with self._acting(queue.value):
            Serial.copy(self, queue, copies)

    def in_step(self) -> AbstractContextManager[object]:
        return self._acting(Queue.STEP.value)

    def run(self, size: int, step: Step) -> None:
        with self._acting(Queue.STEP.value):
            step(size)

    @contextmanager
    def _acting(self, actor: str) -> Iterator[None]:
        before, self._actor = self._actor, actor
        try:
            with _Operations(self):
                yield
        finally:
            self._actor = before

    def operation(self, name: str, reads: list[Tensor], writes: list[Tensor]) -> None:
        reads, writes = (
            [t for t in some if _memory(t) in self._watched] for some in (reads, writes)
        )
        touched = {_memory(tensor) for tensor in (*reads, *writes)}
        actor = HOST if touched <= self._of_host else self._actor
        self.touch(actor, f"{actor}: {name}", reads, writes)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Tells the recorder what each operation reads and writes, by its schema."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self._recorder = recorder

    def __torch_dispatch__(
        self,
        function: Any,  # Any: whatever torch passes on
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if not function.is_view:
            reads: list[Tensor] = []
            writes: list[Tensor] = []
            for place, argument in enumerate(function._schema.arguments):
                value = args[place] if place < len(args) else named.get(argument.name)
                info = argument.alias_info
                into = writes if info is not None and info.is_write else reads
                into += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
            self._recorder.operation(str(function), reads, writes)
        return function(*args, **named)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
