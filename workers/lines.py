"""Small values as lines of JSON, for a child that only tells and is never spoken to."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any


def to_line(value: object) -> bytes:
    """One line; `value` is a dataclass of plain values and enums."""
    assert is_dataclass(value) and not isinstance(value, type)
    return (
        json.dumps({"is": type(value).__name__, **asdict(value)}, default=_plain).encode() + b"\n"
    )


def from_line(line: bytes, kinds: tuple[type, ...]) -> Any:  # Any: one of `kinds`
    """The value again; its enums stay texts where the class does not make them anew."""
    fields = json.loads(line)
    (kind,) = (kind for kind in kinds if kind.__name__ == fields["is"])
    del fields["is"]
    return kind(**fields)


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is no plain value")
