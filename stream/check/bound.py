"""How many sessions a device bears, from how fast whole batches pass through its worker."""

from __future__ import annotations

FPS = 25

# Of the frames/s that full batches reach. Lanes of 25 frames/s lose nothing until the device is
# never idle, and then every frame beyond: in the policy's own simulation the knee lies at 1.0
# (tests/test_check_bound.py). The tenth is for batches that now and then take longer, and for
# what the machine does besides (scripts/show_bound).
SAFE = 0.9

# Of the time between a lane's frames that a batch may take: a lane is in a batch at most once.
LONGEST = 0.95


def sessions(frames_s: float, batch: int, fps: int = FPS) -> int:
    """How many of `fps` keep all but 1% of their frames; frames_s: of full batches on end."""
    if is_too_long(frames_s, batch, fps):
        return 0
    return int(SAFE * frames_s / fps)


def is_too_long(frames_s: float, batch: int, fps: int = FPS) -> bool:
    """Whether a single batch takes as long as a lane's next frame needs to come."""
    return batch / frames_s > LONGEST / fps
