"""How many viewers this process may hold: each costs descriptors, and running out ends us all."""

from __future__ import annotations

import resource

MOST_VIEWERS = 512
FDS_A_VIEWER = 8  # a UDP socket for each address, and what its connecting takes meanwhile
FDS_A_SESSION = 32  # its lane's pipes, its sockets
FDS_BESIDES = 256


def viewers_limit(max_sessions: int) -> int:
    """Raises the soft limit of descriptors to the hard one; what then remains for viewers."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return viewers_within(hard, max_sessions)


def viewers_within(descriptors: int, max_sessions: int) -> int:
    """How many viewers so many descriptors leave room for."""
    if descriptors == resource.RLIM_INFINITY:
        return MOST_VIEWERS
    rest = descriptors - FDS_BESIDES - max_sessions * FDS_A_SESSION
    return max(1, min(MOST_VIEWERS, rest // FDS_A_VIEWER))
