"""A session's live numbers: what its model allows, and what holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

from workers.errors import ControlRefused
from workers.messages import ControlRange

Listener = Callable[[Mapping[str, float]], None]


class Controls:
    """Every number has its default until it is changed. Belongs to the event loop."""

    def __init__(self, ranges: Mapping[str, ControlRange]) -> None:
        self.ranges = ranges
        self.values = {name: each.default for name, each in ranges.items()}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """It hears each change: those that were named, when they hold."""
        self._listeners.append(listener)

    def change(self, wanted: object) -> None:
        """Changes those that are named: {name: number}. Raises ControlRefused, all as before."""
        changed = self._checked(wanted)
        self.values.update(changed)
        for listener in self._listeners:
            listener(changed)

    def replace(self, wanted: object) -> None:
        """As `change`; those that are not named get their defaults."""
        changed = self._checked(wanted)
        self.change({name: each.default for name, each in self.ranges.items()} | changed)

    def told(self) -> dict[str, object]:
        """All of them, for JSON."""
        return {
            "controls": {
                name: {
                    "value": self.values[name],
                    "low": each.low,
                    "high": each.high,
                    "default": each.default,
                }
                for name, each in self.ranges.items()
            }
        }

    def _checked(self, wanted: object) -> dict[str, float]:
        if not isinstance(wanted, dict):
            raise ControlRefused('send an object of names and numbers, as in {"strength": 1.5}')
        return {name: self._number(name, value) for name, value in wanted.items()}

    def _number(self, name: str, value: object) -> float:
        each = self.ranges.get(name)
        if each is None:
            known = ", ".join(self.ranges) or "none"
            raise ControlRefused(f"the model has no control {name[:64]!r}: it has {known}")
        allowed = f"a number from {each.low:g} to {each.high:g}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ControlRefused(f"{name} must be {allowed}")
        if not each.low <= value <= each.high or not math.isfinite(value):
            raise ControlRefused(f"{name} must be {allowed}: it was {str(value)[:32]}")
        return float(value)


def read_json(text: str) -> object:
    """Raises ControlRefused for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ControlRefused("this is no JSON: send an object of names and numbers") from None
