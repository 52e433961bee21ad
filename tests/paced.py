"""Lanes that live as cameras do: frames at a steady rate, phases spread, straight into a worker."""

from __future__ import annotations

import math
import select
import time
from dataclasses import dataclass, replace

from stream.check.bound import FPS
from stream.check.lone_worker import LoneWorker, lone_worker
from workers.messages import Report, WorkerSpec

LAST_FRAMES_S = 0.3


@dataclass(frozen=True, slots=True)
class Played:
    lanes: int
    published: int
    came: int  # avatars

    @property
    def lost(self) -> float:
        """The share of frames that never became an avatar."""
        return 1 - self.came / self.published


def play(spec: WorkerSpec, batch: int, lanes: int, seconds: float, settle_s: float = 1.0) -> Played:
    """So many lanes of 25 frames/s for so long, after a while that is not counted."""
    sized = replace(spec, batch_sizes=(batch,), max_sessions=max(lanes, batch))
    with lone_worker(sized, lambda doing: None) as worker:
        _run(worker, lanes, settle_s)
        published, came = _run(worker, lanes, seconds)
        return Played(lanes, published, came)


def _run(worker: LoneWorker, lanes: int, seconds: float) -> tuple[int, int]:
    published = came = 0
    began_s = time.monotonic()
    # Not evenly spread: a golden section apart, as strangers are.
    due_s = [began_s + (lane * 0.618034) % 1 / FPS for lane in range(lanes)]
    with select.epoll() as bells:
        bells.register(worker.channel.fileno(), select.EPOLLIN)
        lane_of = {worker.arena.outbox(lane).ready_fd: lane for lane in range(lanes)}
        for fd in lane_of:
            bells.register(fd, select.EPOLLIN)
        end_s = began_s + seconds
        while (now_s := time.monotonic()) < end_s + LAST_FRAMES_S:
            for lane in range(lanes):
                if due_s[lane] <= now_s and due_s[lane] < end_s:
                    worker.publish(lane)
                    published += 1
                    due_s[lane] += 1 / FPS
            next_s = min((it for it in due_s if it < end_s), default=math.inf)
            for fd, _ in bells.poll(max(min(next_s, end_s + LAST_FRAMES_S) - now_s, 0)):
                if fd in lane_of:
                    came += worker.take(lane_of[fd]) is not None
                else:
                    _listen(worker)
    return published, came


def _listen(worker: LoneWorker) -> None:
    for message in worker.hear():
        assert not isinstance(message, Report) or not any(
            tally.failed for tally in message.tallies.values()
        ), "a batch failed"
