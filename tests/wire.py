"""Holds what is on the wire to the telemetry contract: its schemas, sizes and conservation laws."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

import stream

SCHEMAS = Path(stream.__file__).parent / "schemas"

TOPICS = {
    r"status|info|overview|event": r"\g<0>",
    r"worker/\d+/(memory|summary|batch)": r"worker-\1",
    r"session/[a-z0-9-]{1,64}": "session",
}


@cache
def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def check(topic: str, payload: bytes, root: str = "omokage/1/a") -> dict[str, Any]:
    """The payload as an object; AssertionError or ValidationError where it breaks the contract."""
    assert topic.startswith(f"{root}/"), topic
    below = topic.removeprefix(f"{root}/")
    for pattern, name in TOPICS.items():
        if found := re.fullmatch(pattern, below):
            return check_payload(found.expand(name), payload)
    raise AssertionError(f"the contract has no topic {below}")


def check_payload(name: str, payload: bytes) -> dict[str, Any]:
    assert len(payload) < 4096, f"{name} has {len(payload)} bytes"
    said: dict[str, Any] = json.loads(payload)
    jsonschema.validate(said, schema(name))
    _check_no_more_than_named(said, schema(name), name)
    if name == "worker-summary":
        check_laws(said)
    return said


def check_laws(summary: dict[str, Any]) -> None:
    def frames(name: str) -> int:
        count = summary.get(f"frames_{name}_total", summary.get(f"frames_{name}"))
        assert isinstance(count, int)
        return count

    gone = sum(frames(it) for it in ("overwritten", "late", "abandoned", "waiting"))
    assert frames("arrived") == gone + frames("batched"), summary
    done = sum(frames(it) for it in ("in_flight", "failed", "emitted"))
    assert frames("batched") == done, summary
    assert frames("unsent") <= frames("emitted"), summary


def _check_no_more_than_named(said: Any, rules: Any, where: str) -> None:
    """A reader must bear more; a writer of ours must say only what is written down."""
    rules = (rules.get("$ref") and {}) or rules
    if isinstance(said, dict) and "properties" in rules:
        assert set(said) <= set(rules["properties"]), f"{where}: {set(said)}"
        for name, value in said.items():
            _check_no_more_than_named(value, rules["properties"][name], f"{where}.{name}")
    if isinstance(said, list) and "items" in rules:
        for value in said:
            _check_no_more_than_named(value, rules["items"], f"{where}[]")
