"""A child process that is talked with: started with a channel, ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from stream.child import Child
from stream.post import Post
from workers.channel import Channel


@dataclass(frozen=True, slots=True)
class Partner:
    """The child, what it says (`channel.receive`), and what is said to it."""

    child: Child
    channel: Channel
    post: Post


@asynccontextmanager
async def partner(
    name: str, module: str, environment: Mapping[str, str], wake: asyncio.Event
) -> AsyncIterator[Partner]:
    """Runs `python -m module --alive FD --socket FD`; killed and waited for at the end.

    `wake` is set whenever it has said something, or is gone. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = Channel.pair()
    with Post(ours) as post:
        try:
            child = await Child.start(
                name,
                module,
                ["--socket", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                environment=environment,
            )
        finally:
            theirs.close()
        loop.add_reader(ours.fileno(), wake.set)
        try:
            yield Partner(child, ours, post)
        finally:
            loop.remove_reader(ours.fileno())
            await child.end()
