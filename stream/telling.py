"""A child that tells, line by line, and is never spoken to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stream.brief_child import brief_child
from workers.lines import from_line


def tellings(
    module: str,
    arguments: Sequence[str],
    kinds: tuple[type, ...],
    environment: Mapping[str, str],
) -> Iterator[Any]:  # Any: one of `kinds`
    """Runs `python -m module --tell FD arguments`, and yields what it tells, one of `kinds` each.

    The child is killed and waited for when the iteration ends, however it ends. Raises WorkerLost
    where the child ended by itself, but not well.
    """
    tell_out, tell_in = os.pipe()
    with os.fdopen(tell_out, "rb") as lines, os.fdopen(tell_in, "wb") as theirs:
        words = ["--tell", str(tell_in), *arguments]
        with brief_child(module, words, [tell_in], environment) as child:
            theirs.close()  # so that the lines end with the child
            for line in lines:
                yield from_line(line, kinds)
            child.wait()
