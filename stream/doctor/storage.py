"""The folder that outlives a server, and the room on its disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stream.certificate import state_folder
from stream.doctor.certificate import first_obstacle
from stream.doctor.finding import Finding, ok, warning

LEAST_BYTES = 100_000_000  # a log fills a disk, and a full one stops whoever writes


def look() -> list[Finding]:
    folder = state_folder(os.environ)
    obstacle = first_obstacle(folder)
    there = next(it for it in (folder, *folder.parents) if it.exists())
    return [judge(folder, obstacle, shutil.disk_usage(there).free)]


def judge(folder: Path, obstacle: Path | None, free_bytes: int) -> Finding:
    said = f"{folder}, {free_bytes / 1e9:.1f} GB free"
    if obstacle is not None:
        mend = "set XDG_STATE_HOME to a folder of yours"
        return warning("storage", f"{obstacle} is not writable, so nothing can be kept", mend)
    if free_bytes < LEAST_BYTES:
        return warning("storage", said, "make room on that disk")
    return ok("storage", said)
