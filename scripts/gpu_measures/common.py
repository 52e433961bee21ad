"""What the measures run: models, an arena, an engine that is driven with all it can have in flight.

Needs torch and numpy alone.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stream.nvml import Nvml, NvmlError
from workers.device import DEPTH, name_of
from workers.engine import Done, Engine
from workers.geometry import Geometry
from workers.messages import Fill
from workers.models.api import AvatarModel, Control, Tensors
from workers.ring import Arena
from workers.schedule import Row

Pixels = NDArray[np.uint8]

SLOTS = DEPTH + 1  # of each lane that take turns
MIB = 1 << 20


def device_here() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Blurred(AvatarModel):
    """Two convolutions over a frame, its predecessor and an identity: what a row answers depends
    on all that is its own, and on nothing else."""

    controls: ClassVar = {"gain": Control(0.0, 2.0, 1.0)}

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.size = geometry.height, geometry.width
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(9, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid()
        )

    def identity(self, portrait: Tensor) -> Tensors:
        return {"face": F.interpolate(portrait[None], self.size)[0]}

    def initial_state(self) -> Tensors:
        return {"last": torch.zeros(3, *self.size)}

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        gain = controls["gain"][:, None, None, None]
        seen = torch.cat((frames, state["last"], identity["face"] * gain), 1)
        return self.net(seen), {"last": frames}


class Deep(nn.Module):
    """An ordinary convolutional net in half precision, channels last: `blocks` of 256 channels at
    an eighth of the size, 4.8 GFLOP each for a frame of 512 × 512."""

    def __init__(self, blocks: int, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.PixelUnshuffle(8), nn.Conv2d(192, 256, 1)]
        for _ in range(blocks):
            layers += [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(256, 192, 1), nn.PixelShuffle(8)]
        self.net = nn.Sequential(*layers).to(dtype=dtype, memory_format=torch.channels_last)
        self.dtype = dtype

    def forward(self, frames: Tensor) -> Tensor:
        seen = frames.to(self.dtype, memory_format=torch.channels_last)
        return torch.sigmoid(self.net(seen)).to(torch.float32)

    @staticmethod
    def gflop(blocks: int, geometry: Geometry) -> float:
        """Of one frame; a multiplication and an addition are two."""
        places = geometry.height * geometry.width / 64
        return places * (blocks * 2 * 9 * 256 * 256 + 2 * 2 * 192 * 256) / 1e9


# ---------------------------------------------------------------------- the engine


def engine_on(
    arena: Arena | None,
    model: AvatarModel,
    geometry: Geometry,
    *,
    sizes: Sequence[int] = (8,),
    sessions: int = 8,
    capture: bool = True,
    compile: bool = False,
    fill: Fill | None = Fill.LAST,
) -> Engine:
    return Engine(
        model,
        geometry=geometry,
        batch_sizes=tuple(sizes),
        device=device_here(),
        fill=fill,
        max_sessions=sessions,
        compile=compile,
        arena=arena,
        capture=capture,
    )


def rows_of(arena: Arena, lanes: Sequence[int], batch: int) -> list[Row]:
    slot = batch % SLOTS
    return [
        Row(lane, arena.inbox(lane).view(slot), arena.outbox(lane).view(slot), 0.04)
        for lane in lanes
    ]


def take(engine: Engine) -> Done:
    """The next batch that ends; waits for it without spinning."""
    while (done := engine.finished()) is None:
        assert engine.doorbell_fd is not None
        select.select([engine.doorbell_fd], [], [])
    return done


Look = Callable[[Done, Sequence[Row], float], None]  # with the seconds since it was submitted


def drive(
    engine: Engine,
    plans: Iterable[tuple[int, Sequence[Row]]],
    look: Look = lambda done, rows, took_s: None,
    in_flight: int = DEPTH,
) -> None:
    """Batches of a size and rows, as many of them in flight; `look` sees each when it ended."""
    flights: list[tuple[Sequence[Row], float]] = []

    def land() -> None:
        done = take(engine)
        rows, began_s = flights.pop(0)
        look(done, rows, perf_counter() - began_s)

    for size, rows in plans:
        while len(flights) >= in_flight:
            land()
        flights.append((rows, perf_counter()))
        engine.submit(rows, size)
    while flights:
        land()


# ------------------------------------------------------------------------ figures


def noise(geometry: Geometry, count: int) -> list[Pixels]:
    random = np.random.default_rng(0)
    shape = (geometry.rows, geometry.width)
    return [random.integers(16, 236, shape).astype(np.uint8) for _ in range(count)]


def levels_apart(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(np.int16) - other).max())


def rank(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


COUNTERS = (
    *("num_device_alloc", "num_device_free", "num_alloc_retries", "num_ooms"),
    "num_sync_all_streams",
)
# Of pinned memory; torch renamed them between 2.11 and 2.13.
HOST_COUNTERS = {
    *("allocations.allocated", "allocated_bytes.current", "segment.allocated"),
    *("num_host_alloc", "num_host_free"),
}


def counters() -> dict[str, int]:
    """All that must stay as it is after warm-up; empty without CUDA."""
    if not torch.cuda.is_available():
        return {}
    stats = torch.cuda.memory_stats_as_nested_dict()
    told = {name: int(stats.get(name, 0)) for name in COUNTERS}
    for name in ("reserved_bytes", "allocated_bytes"):
        told[f"{name}.current"] = int(stats[name]["all"]["current"])
    told["reserved_bytes.peak"] = int(stats["reserved_bytes"]["all"]["peak"])
    told["segment.allocated"] = int(stats["segment"]["all"]["allocated"])
    host = getattr(torch.cuda, "host_memory_stats", None)
    for name, value in (host() if host else {}).items():
        if name in HOST_COUNTERS:
            told[f"host.{name}"] = int(value)
    return told


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - value for name, value in before.items() if after[name] != value}


def device_bytes(nvml: Nvml | None, pid: int) -> int | None:
    """What NVML says this process has of the device; the whole device's where it cannot tell."""
    if nvml is None or not torch.cuda.is_available():
        return None
    uuid = name_of(device_here())[1]
    try:
        reading = nvml.device(uuid or "").read(pid)
    except NvmlError:
        return None
    return reading.process_bytes if reading.process_bytes is not None else reading.used_bytes


def nvml_here() -> Nvml | None:
    try:
        return Nvml.load()
    except NvmlError:
        return None
