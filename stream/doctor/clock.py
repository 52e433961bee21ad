"""The wall clock, by which certificates and messages are dated."""

from __future__ import annotations

import ctypes
from datetime import UTC, datetime
from pathlib import Path

from stream.doctor.finding import Finding, error, ok, warning

TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
TIMEX_BYTES = 256  # struct timex is 208


def look() -> list[Finding]:
    newest_s = max(it.stat().st_mtime for it in Path(__file__).parent.glob("*.py"))
    return [judge(datetime.now(UTC), datetime.fromtimestamp(newest_s, UTC), _is_synchronised())]


def judge(now: datetime, installed: datetime, is_synchronised: bool | None) -> Finding:
    """`installed`: when our own files were written; None: the kernel does not tell."""
    said = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    mend = "let it be synchronised (timedatectl set-ntp true)"
    if now < installed:
        return error("clock", f"{said}, before these programs were installed", mend)
    if is_synchronised is False:
        return warning("clock", f"{said}, not synchronised as the kernel knows", mend)
    return ok("clock", said + (", synchronised" if is_synchronised else ""))


def _is_synchronised() -> bool | None:
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    state = int(adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))  # modes 0: only looks
    return None if state < 0 else state != TIME_ERROR
