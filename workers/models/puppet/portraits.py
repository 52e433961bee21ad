"""The portraits that ship: who they are is told in the NOTICE beside their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).with_name("portraits")

# In the order of the picker; a newcomer is the first one.
NAMES = ("ember", "astronaut", "yuki", "bruno")

PORTRAITS: Mapping[str, Path] = MappingProxyType({name: FOLDER / f"{name}.webp" for name in NAMES})
