"""The findings on a screen, or as JSON for a machine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from stream.doctor.finding import Finding, Level

TOPIC_WIDTH = 12
WORDS = {Level.OK: "ok", Level.WARNING: "warning", Level.ERROR: "ERROR"}


def as_lines(findings: Sequence[Finding]) -> list[str]:
    """One line each, the last one being the sum."""
    lines = [
        f"{WORDS[it.level]:<8} {it.topic:<{TOPIC_WIDTH}} {it.says}"
        + (f": {it.mend}" if it.mend else "")
        for it in findings
    ]
    counts = Counter(it.level for it in findings)
    parts = [
        f"{counts[level]} {level.value}{'s' if counts[level] > 1 else ''}"
        for level in (Level.ERROR, Level.WARNING)
        if counts[level]
    ]
    return [*lines, ", ".join(parts) or "ready"]


def as_json(findings: Sequence[Finding]) -> str:
    found = [{**asdict(it), "level": it.level.value} for it in findings]
    return json.dumps({"ready": is_ready(findings), "findings": found}, indent=2)


def is_ready(findings: Sequence[Finding]) -> bool:
    return all(it.level is not Level.ERROR for it in findings)
