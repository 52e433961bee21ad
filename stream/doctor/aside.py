"""A look that blocks, in a thread that nobody has to wait for: a driver or a resolver may hang."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def aside(look: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What it gives or raises. asyncio's own threads would hold the end of the program."""
    loop = asyncio.get_running_loop()
    given: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = look(*args, **kwargs)
        except Exception as error:
            post(given.set_exception, error)
        else:
            post(given.set_result, result)

    def post(settle: Callable[..., None], it: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody asks any more
            loop.call_soon_threadsafe(lambda: None if given.done() else settle(it))

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await given
