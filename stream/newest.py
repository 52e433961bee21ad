"""Lets the newest of several alone go on: whoever enters ends the one that is inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from workers.errors import ModelError, PortraitOvertaken


class Newest:
    """For one session's portraits. Belongs to the event loop."""

    def __init__(self) -> None:
        self._inside: asyncio.Timeout | None = None

    @asynccontextmanager
    async def turn(self, within_s: float) -> AsyncIterator[None]:
        """What is done inside is cancelled when a newer one enters, or after so long.

        Raises PortraitOvertaken, or ModelError where the time is over.
        """
        try:
            async with asyncio.timeout(within_s) as mine:
                before, self._inside = self._inside, mine
                if before is not None and not before.expired():
                    before.reschedule(asyncio.get_running_loop().time())
                yield
        except TimeoutError:
            if not mine.expired():
                raise
            if self._inside is not mine:
                raise PortraitOvertaken("a newer portrait has taken its place") from None
            raise ModelError(
                f"the portrait took more than {within_s:.0f} s: try again in a while"
            ) from None
        finally:
            if self._inside is mine:
                self._inside = None
