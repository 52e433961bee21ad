"""What a newcomer installs: the wheel's content, and the words where Python is too old."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("stream", "workers")


def test_the_wheel_carries_each_file_of_both_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copytree(ROOT / "tests", source / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    due = {
        str(it.relative_to(source))
        for package in PACKAGES
        for it in (source / package).rglob("*")
        if it.is_file()
    }
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "--no-index", "-w", tmp_path, source], check=True)
    (built,) = tmp_path.glob("omokage-*.whl")
    names = set(zipfile.ZipFile(built).namelist())
    assert {name for name in names if ".dist-info/" not in name} == due


@pytest.mark.parametrize("found", ["Python 3.9.2", None])
def test_a_python_too_old_or_missing_is_told_in_one_line(tmp_path: Path, found: str | None) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cut", "dirname", "env", "flock", "readlink", "sha256sum"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    if found:
        python = tools / "python3"
        python.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{found}" && exit\nexit 1\n')
        python.chmod(0o755)
    clone = tmp_path / "a clone"
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    shutil.copy(ROOT / "pyproject.toml", clone)
    (tmp_path / "serve").symlink_to(clone / "scripts" / "serve")
    told = subprocess.run(
        [tmp_path / "serve"], env={**os.environ, "PATH": str(tools)}, capture_output=True, text=True
    )
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert "Python 3.11" in line and (found or "none") in line and "apt-get install" in line
    assert not (clone / ".venv").exists()
