"""A worker without a model, for the supervisor's tests: it says what a worker says.

`WorkerSpec.model` is the script: words, done in order once the spec is here.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time

from workers.channel import Channel
from workers.geometry import Geometry
from workers.messages import (
    AttachArena,
    Beat,
    CaptureLost,
    Descriptor,
    Drain,
    Drained,
    Happened,
    Loaded,
    OpenLane,
    Phase,
    Ready,
    Refused,
    WorkerSpec,
)
from workers.parent import leave_with_parent
from workers.ring import Arena

READY = Ready("cpu", "a fake", None, False, None, None, 1 << 20, 0.1, 1.0)
ON_GPU = Ready("cuda:0", "a fake", "GPU-1", True, 0, 0, 1 << 20, 0.1, 1.0)


def receive(channel: Channel) -> tuple[object, int | None]:
    while (received := channel.receive()) is None:
        select.select([channel], [], [])
    return received


def attach(channel: Channel) -> Arena:
    fds: list[int] = []
    while True:
        message, fd = receive(channel)
        if isinstance(message, Descriptor):
            assert fd is not None and message.index == len(fds)
            fds.append(fd)
            continue
        assert isinstance(message, AttachArena)
        return Arena.attach(
            AttachArena(
                message.geometry,
                message.lanes,
                message.inbox_slots,
                message.outbox_slots,
                tuple(fds),
            )
        )


def serve(channel: Channel, *, deaf: bool) -> None:
    """Tells back each lane that is opened; a deaf one does not drain."""
    while True:
        channel.send(Beat(Phase.SERVING, 0.6))
        if not select.select([channel], [], [], 0.1)[0]:
            continue
        match channel.receive():
            case (OpenLane(lane=lane, lease=lease), fd):
                identity = None if fd is None else os.pread(fd, 100, 0).decode()
                data = {"lane": lane, "lease": lease, "identity": identity}
                channel.send(Happened("opened", "info", "a lane", data))
            case (Drain(), _) if not deaf:
                channel.send(Drained())
                return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--alive", type=int, required=True)
    chosen = parser.parse_args()
    leave_with_parent(chosen.alive)
    channel = Channel.from_fd(chosen.socket)
    spec, _ = receive(channel)
    assert isinstance(spec, WorkerSpec)
    print(f"fake worker {os.getpid()} begins", file=sys.stderr)
    if spec.model == "refuse":
        channel.send(Refused("model 'nobody' is unknown: pass toon"))
        sys.exit(2)
    if spec.model == "uncapturable" and spec.capture:
        channel.send(CaptureLost("the step cannot be recorded"))
        sys.exit(1)
    if spec.model == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    channel.send(Beat(Phase.LOADING, 5.0))
    channel.send(Loaded(Geometry(32, 32), (1,), False, {}))
    with attach(channel) as arena:
        assert arena.lanes == spec.max_sessions
        channel.send(Beat(Phase.WARMING, 5.0))
        channel.send(ON_GPU if spec.model == "gpu" else READY)
        if spec.model == "stall":
            channel.send(Beat(Phase.BATCH, 0.2))
            time.sleep(600)
        if spec.model == "sleep":  # nothing but the lifeline wakes it
            channel.send(Beat(Phase.BATCH, 600.0))
            time.sleep(600)
        serve(channel, deaf=spec.model == "deaf")


if __name__ == "__main__":
    main()
