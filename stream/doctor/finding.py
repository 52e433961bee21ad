"""What an examination finds: one line, and where something is amiss, its mend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    OK = "ok"
    WARNING = "warning"  # it serves, with less
    ERROR = "error"  # it would not serve, or not what these settings promise


@dataclass(frozen=True, slots=True)
class Finding:
    """`topic` is what was looked at, `says` what was found there."""

    level: Level
    topic: str
    says: str
    mend: str = ""


def ok(topic: str, says: str) -> Finding:
    return Finding(Level.OK, topic, says)


def warning(topic: str, says: str, mend: str) -> Finding:
    return Finding(Level.WARNING, topic, says, mend)


def error(topic: str, says: str, mend: str) -> Finding:
    return Finding(Level.ERROR, topic, says, mend)
