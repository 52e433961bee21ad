"""How many sessions one event loop can carry: measured, so that the server can say it at start."""

from __future__ import annotations

USUAL_FPS = 30
# What a frame costs the loop's thread, there and back: 0.55 to 0.71 ms by 64 sessions of 64x64 at
# 10 frames/s on a Zen 4 core (scripts/show_sessions). Pixels are other threads' work, but a large
# picture's further packets are the loop's: this is what it carries at best.
FRAME_MS = 0.65
# A loop busier than this answers late: what comes in bursts has to wait for its turn.
MOST_BUSY = 0.75


def frames_s_carried() -> int:
    """Of all sessions together, each decoded and sent back once."""
    return int(MOST_BUSY * 1000 / FRAME_MS)


def beyond(max_sessions: int) -> str | None:
    """What to say at start of more sessions than one loop can carry; None: it can."""
    carried = frames_s_carried()
    sessions = carried // USUAL_FPS
    if max_sessions <= sessions:
        return None
    return (
        f"--max-sessions {max_sessions} is beyond what one event loop carries, about {carried} "
        f"frames/s of small pictures, or {sessions} sessions of {USUAL_FPS}: with more at once, "
        "frames come late and are dropped; slower sources, or a second server, carry them"
    )
