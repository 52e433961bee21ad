"""A batch's way through fixed buffers: slots, device, step, device, slots.

With at most DEPTH batches between `send` and their taking, a transfer buffer is free again when
its turn comes, so three waits order everything: the step waits for the frames' way up, the way
down for the step, the host for the way down. The tests show that none can be left out.

Beside each avatar travels the sum of its values: it tells the host, with no wait of its own,
whether all of them were finite.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.device import DEPTH, Moment, Queue, Seam, Step
from workers.geometry import Geometry
from workers.messages import Fill

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Row:
    """A real frame of a batch. The slots, (H * 3 // 2, W) uint8, are the engine's until `Done`."""

    lane: int
    slot_in: Pixels
    slot_out: Pixels
    dt_s: float  # since this lane's previous frame; 0 for its first


@dataclass(frozen=True, slots=True)
class Stage:
    """Pinned copies of the slots, DEPTH × (most, H * 3 // 2, W), where slots cannot be pinned."""

    up: tuple[Tensor, ...]
    down: tuple[Tensor, ...]

    @classmethod
    def born(cls, buffers: Buffers, seam: Seam) -> Stage:
        shape = tuple(buffers.up[0].shape)

        def frames() -> tuple[Tensor, ...]:
            return tuple(seam.host_tensor(shape, torch.uint8) for _ in range(DEPTH))

        return cls(frames(), frames())

    def unload(self, rows: Sequence[Row], buffer: int) -> None:
        """To the slots, when the batch in this buffer has come down."""
        for row, frame in zip(rows, self.down[buffer], strict=False):
            row.slot_out[:] = frame.numpy()


@dataclass(frozen=True, slots=True)
class Buffers:
    """Everything a batch passes through, for `most` frames; sizes below use the first rows.

    Three rows of a table say, for each row of the batch: which of `frames` it takes, whose banks
    it reads, whose state it writes. Row `most` of `frames` is black.
    """

    up: tuple[Tensor, ...]  # DEPTH × (most, H * 3 // 2, W) uint8
    host_tables: tuple[Tensor, ...]  # DEPTH × (3, most) int64, on the host
    host_dt_s: tuple[Tensor, ...]  # DEPTH × (most,) float32, on the host
    frames: Tensor  # (most + 1, H * 3 // 2, W) uint8
    table: Tensor  # (3, most) int64
    dt_s: Tensor  # (most,) float32
    chosen: Tensor  # (most, H * 3 // 2, W) uint8: `frames`, each fill row in its place
    pictures: Tensor  # (most, 3, H, W) float32
    avatars: Tensor  # (most, H * 3 // 2, W) uint8
    sums: Tensor  # (most,) float32: of all values of each avatar, NaN or infinite where one is
    down: tuple[Tensor, ...]  # DEPTH × (most, H * 3 // 2, W) uint8
    sums_down: tuple[Tensor, ...]  # DEPTH × (most,) float32
    host_sums: tuple[Tensor, ...]  # DEPTH × (most,) float32, on the host

    @classmethod
    def born(cls, geometry: Geometry, most: int, device: torch.device, seam: Seam) -> Buffers:
        frame = (geometry.rows, geometry.width)

        def on_device(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        def transfers(of: Tensor) -> tuple[Tensor, ...]:
            if seam.in_order:  # the memory itself: a copy onto itself is none
                return (of,) * DEPTH
            return tuple(torch.zeros_like(of) for _ in range(DEPTH))

        frames = on_device(most + 1, *frame)
        avatars = on_device(most, *frame)
        sums = on_device(most, dtype=torch.float32)
        frames[most, : geometry.height] = 16
        frames[most, geometry.height :] = 128
        return cls(
            up=transfers(frames[:most]),
            host_tables=tuple(seam.host_tensor((3, most), torch.int64) for _ in range(DEPTH)),
            host_dt_s=tuple(seam.host_tensor((most,), torch.float32) for _ in range(DEPTH)),
            frames=frames,
            table=on_device(3, most, dtype=torch.int64),
            dt_s=on_device(most, dtype=torch.float32),
            chosen=on_device(most, *frame),
            pictures=on_device(most, 3, geometry.height, geometry.width, dtype=torch.float32),
            avatars=avatars,
            sums=sums,
            down=transfers(avatars),
            sums_down=transfers(sums),
            host_sums=tuple(seam.host_tensor((most,), torch.float32) for _ in range(DEPTH)),
        )

    @property
    def most(self) -> int:
        return len(self.chosen)

    def write_tables(
        self, rows: Sequence[Row], size: int, scratch: int, fill: Fill, buffer: int
    ) -> None:
        """Real rows in order; a fill row reads all that the last real one does, but for zeros.

        Its state goes to `scratch`.
        """
        source, reads, writes = self.host_tables[buffer].numpy()
        dt_s = self.host_dt_s[buffer].numpy()
        real = len(rows)
        source[:real] = range(real)
        reads[:real] = writes[:real] = [row.lane for row in rows]
        dt_s[:real] = [row.dt_s for row in rows]
        source[real:size] = real - 1 if fill is Fill.LAST else self.most
        reads[real:size] = rows[-1].lane
        writes[real:size] = scratch
        dt_s[real:size] = rows[-1].dt_s

    def unsound(self, real: int, buffer: int) -> tuple[int, ...]:
        """Which of the first `real` avatars held NaN or an infinity, once this buffer is down."""
        finite = np.isfinite(self.host_sums[buffer].numpy()[:real])
        return () if finite.all() else tuple(np.flatnonzero(~finite).tolist())


def send(
    seam: Seam,
    buffers: Buffers,
    stage: Stage | None,
    rows: Sequence[Row],
    size: int,
    buffer: int,
    step: Step,
) -> Exception | None:
    """Puts a batch of `size`, whose tables are written, on its way; what the step raised.

    A step that raised is passed by: what comes before and after it keeps its order.
    """
    real = len(rows)
    up, down = buffers.up[buffer], buffers.down[buffer]

    seam.record(Queue.UP, Moment.UP_BEGAN, buffer)
    seam.copy(Queue.UP, zip(_sources(rows, stage, buffer), up[:real], strict=True))
    seam.record(Queue.UP, Moment.UP_ENDED, buffer)

    seam.wait(Queue.STEP, Moment.UP_ENDED, buffer)
    seam.record(Queue.STEP, Moment.STEP_BEGAN, buffer)
    seam.copy(
        Queue.STEP,
        (
            (up[:real], buffers.frames[:real]),
            (buffers.host_tables[buffer], buffers.table),
            (buffers.host_dt_s[buffer], buffers.dt_s),
        ),
    )
    failure = _run(seam, size, step)
    if failure is None:
        sums = buffers.sums[:real], buffers.sums_down[buffer][:real]
        seam.copy(Queue.STEP, ((buffers.avatars[:real], down[:real]), sums))
    seam.record(Queue.STEP, Moment.STEP_ENDED, buffer)

    seam.wait(Queue.DOWN, Moment.STEP_ENDED, buffer)
    seam.record(Queue.DOWN, Moment.DOWN_BEGAN, buffer)
    if failure is None:
        seam.copy(Queue.DOWN, zip(down[:real], _targets(rows, stage, buffer), strict=True))
        sums = buffers.sums_down[buffer][:real], buffers.host_sums[buffer][:real]
        seam.copy(Queue.DOWN, (sums,))
    seam.record(Queue.DOWN, Moment.DOWN_ENDED, buffer)
    seam.publish(buffer)
    return failure


def _run(seam: Seam, size: int, step: Step) -> Exception | None:
    try:
        seam.run(size, step)
    except Exception as error:  # the model's: this batch's end, and no other's
        # What it had computed hangs on the frames of its functions, and the next batch may need
        # that memory. That we ran out of it was the failure, perhaps.
        traceback.clear_frames(error.__traceback__)
        return error
    return None


def _sources(rows: Sequence[Row], stage: Stage | None, buffer: int) -> Sequence[Tensor]:
    if stage is None:
        return [torch.from_numpy(row.slot_in) for row in rows]
    staged = stage.up[buffer][: len(rows)]
    for row, frame in zip(rows, staged, strict=True):
        frame.numpy()[:] = row.slot_in
    return list(staged)


def _targets(rows: Sequence[Row], stage: Stage | None, buffer: int) -> Sequence[Tensor]:
    if stage is None:
        return [torch.from_numpy(row.slot_out) for row in rows]
    return list(stage.down[buffer][: len(rows)])
