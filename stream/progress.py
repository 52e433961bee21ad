"""What a long command is doing: one line, written over; without a terminal, each part once."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import click

CLEAR = "\r\x1b[2K"


class Progress:
    """A context manager; call it with `part: detail`. It writes to stderr."""

    def __init__(self) -> None:
        self._in_terminal = sys.stderr.isatty()
        self._part = ""

    def __call__(self, text: str) -> None:
        part = text.partition(":")[0]
        if self._in_terminal:
            click.echo(f"{CLEAR}{text}", err=True, nl=False)
        elif part != self._part:
            click.echo(part, err=True)
        self._part = part

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._in_terminal:
            click.echo(CLEAR, err=True, nl=False)
