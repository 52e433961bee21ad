"""Whether the model's name leads anywhere. It is not run: that is what `omokage check` is for."""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from stream.doctor.finding import Finding, error, ok
from stream.settings import Settings

BUILT_IN = ("puppet", "toon", "mirror")  # the workers' own table comes with torch


def look(settings: Settings) -> list[Finding]:
    return [judge(settings.model)]


def judge(name: str) -> Finding:
    if name in BUILT_IN:
        return ok("model", f"{name}, built in")
    if name.endswith(".pt2"):
        return _exported(name)
    module, colon, factory = name.partition(":")
    top = module.partition(".")[0]
    if not colon or not top.isidentifier() or not factory.isidentifier():
        kinds = "puppet, toon, mirror, package.module:factory or a .pt2 file"
        return error("model", f"{name!r} is unknown", f"pass {kinds}")
    # The top alone: to look for what is in a package is to run the package.
    if PathFinder.find_spec(top, [str(Path.cwd())]) is None and find_spec(top) is None:
        said = f"{name!r} is not there: no module {top!r} here or installed"
        return error("model", said, "start from its directory or install it")
    return ok("model", f"{name}, from {top} (`omokage check {name}` runs it)")


def _exported(name: str) -> Finding:
    try:
        with Path(name).open("rb") as file:
            file.read(1)
    except OSError as refused:
        reason = (refused.strerror or "not to be had").lower()
        return error("model", f"{name!r} cannot be read ({reason})", "check the path")
    return ok("model", f"{name} (`omokage check {name}` runs it)")
