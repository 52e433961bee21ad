"""TLS on a port where a browser may also knock in plain HTTP, and is shown the way."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from stream.hosts import bare

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0  # from the connection to the end of its TLS handshake
GOODBYE_S = 0.5
UNDECIDED = 256  # connections without a handshake yet; more wait in the kernel's queue
AGAIN_S = 1.0  # after accept() has failed, as for want of descriptors
TLS_RECORD = b"\x16"  # a handshake's first byte (RFC 8446, section 5.1); no HTTP method has it

Protocol = Callable[[], asyncio.BaseProtocol]


@asynccontextmanager
async def gate(
    sockets: Sequence[socket.socket],
    server: Protocol,
    context: ssl.SSLContext,
    bugs: logging.Logger,
) -> AsyncIterator[None]:
    """Hands what speaks TLS to the server, until the end of the block. The sockets listen.

    Plain HTTP is told the https address instead: a person has typed the address without it.
    """
    signpost = web.ServerRunner(web.Server(_show_the_way, access_log=None, logger=bugs))
    await signpost.setup()
    assert signpost.server is not None
    porter = _Porter(server, signpost.server, context)
    try:
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(porter.accept(one, group)) for one in sockets]
            try:
                yield
            finally:
                for task in (*keeping, *porter.welcoming):
                    task.cancel()
    finally:
        await signpost.cleanup()


class _Porter:
    def __init__(self, server: Protocol, signpost: Protocol, context: ssl.SSLContext) -> None:
        self._server = server
        self._signpost = signpost
        self._context = context
        self._places = asyncio.Semaphore(UNDECIDED)
        self.welcoming: set[asyncio.Task[None]] = set()

    async def accept(self, listening: socket.socket, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        while True:
            await self._places.acquire()
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:
                self._places.release()
                log.warning("no connection accepted: %s", error)
                await asyncio.sleep(AGAIN_S)
                continue
            task = group.create_task(self._welcome(accepted))
            self.welcoming.add(task)
            task.add_done_callback(self._decided)

    def _decided(self, task: asyncio.Task[None]) -> None:
        self.welcoming.discard(task)
        self._places.release()

    async def _welcome(self, accepted: socket.socket) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._hand_over(accepted, await _first_byte(accepted))
        except OSError as error:  # SSLError and TimeoutError are such: scanners come and go
            log.debug("no handshake: %s", error)
        except Exception:  # it ends this connection, not the gate
            log.exception("a connection broke at the gate")

    async def _hand_over(self, accepted: socket.socket, first: bytes) -> None:
        """The socket is the transport's from here on, also where the handshake fails."""
        loop = asyncio.get_running_loop()
        if first != TLS_RECORD:
            await loop.connect_accepted_socket(self._signpost, accepted)
            return
        await loop.connect_accepted_socket(
            self._server,
            accepted,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )


async def _first_byte(accepted: socket.socket) -> bytes:
    """Leaves it where it is; empty at the end of the stream. Closes the socket where it raises."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(accepted, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(accepted)
        return accepted.recv(1, socket.MSG_PEEK)
    except BaseException:
        accepted.close()
        raise


async def _show_the_way(request: web.BaseRequest) -> web.Response:
    headers = {"Cache-Control": "no-store", "Server": "omokage"}
    if request.method in ("GET", "HEAD") and bare(request.host) is not None:
        # Not for ever, as 308 would be: the next start may be one without --https.
        headers["Location"] = f"https://{request.host}{request.path_qs}"
        response = web.Response(status=307, headers=headers)
    else:  # what it sent, a token perhaps, it has sent in the clear: it is told, not led on
        text = "this port speaks HTTPS only: write the address with https://"
        response = web.Response(status=400, text=text, headers=headers)
    response.force_close()
    return response
