"""Builds a stand-in for the GPU driver's library, and decides what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream import nvml

SOURCE = Path(__file__).with_suffix(".c")
GPU = "GPU-1"

needs_compiler = pytest.mark.skipif(
    not os.environ.get("CI") and shutil.which("gcc") is None, reason="needs a C compiler"
)


class FakeGpu:
    """What the library says from now on: `says(temperature=60)`, and errors, each one more."""

    def __init__(self, library: Path, words: Path) -> None:
        self.library = library
        self._words = words
        self._said: dict[str, int] = {"used": 1 << 30, "temperature": 50, "reasons": 0}
        self._errors: list[int] = []
        self._write()

    def says(self, **numbers: int) -> None:
        self._said |= numbers
        self._write()

    def fails(self, xid: int) -> None:
        self._errors.append(xid)
        self._write()

    def _write(self) -> None:
        """Whole or not at all: the library may read it at any instant."""
        said = [*self._said.items(), *(("xid", it) for it in self._errors)]
        part = self._words.with_suffix(".part")
        part.write_text("".join(f"{word} {number}\n" for word, number in said))
        part.replace(self._words)


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """The machine has a GPU, as far as NVML is asked."""
    fake = build(tmp_path)
    monkeypatch.setenv("FAKE_NVML", str(tmp_path / "gpu"))
    monkeypatch.setattr(nvml, "LIBRARY", str(fake.library))
    yield fake


def build(folder: Path) -> FakeGpu:
    library = folder / nvml.LIBRARY
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE]
    subprocess.run(command, check=True)
    return FakeGpu(library, folder / "gpu")
