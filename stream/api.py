"""The REST API and the page, on one web app with the signalling."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import ETag, web
from aiohttp.http import HttpProcessingError

from stream import doors
from stream.gate import gate
from stream.names import is_name
from stream.sdp import MAX_BYTES
from stream.session_api import SessionApi
from stream.settings import Settings
from stream.signalling import RETRY_AFTER_S, Signalling, Stage
from workers.errors import SettingsError

SHUTDOWN_S = 0.7  # aiohttp waits twice: for the handlers, then for their connections
BACKLOG = 128

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


def build_web_app(settings: Settings, stage: Stage) -> web.Application:
    """All that answers over HTTP, behind the doors."""
    page = Page(read_files(resources.files("stream") / "web"))
    app = web.Application(
        middlewares=doors.doors(settings, {*page.paths, "/healthz", "/readyz"}),
        client_max_size=MAX_BYTES,
    )
    doors.install(app, settings)
    app.add_routes(Signalling(stage, settings.advertise, settings.ice_servers).routes())
    app.add_routes(SessionApi(stage, settings.advertise).routes())
    app.add_routes(Api(stage).routes())
    app.add_routes(page.routes())
    return app


class Api:
    """What a node and its sessions do, as JSON."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/sessions", self._sessions),
            web.get("/sessions/{name}", self._session),
            web.get("/state", self._state),
            web.get("/healthz", self._alive),
            web.get("/readyz", self._ready),
        ]

    async def _sessions(self, request: web.Request) -> web.Response:
        return web.json_response({"sessions": [asdict(it) for it in self._stage.sessions()]})

    async def _session(self, request: web.Request) -> web.Response:
        session = self._stage.session(request.match_info["name"])
        if session is None:
            raise web.HTTPNotFound(text="no session has this name: GET /sessions lists them")
        return web.json_response(asdict(session))

    async def _state(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._stage.state()))

    async def _alive(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, request: web.Request) -> web.Response:
        if self._stage.ready:
            return web.json_response({"ready": True})
        error = {"ready": False, "error": self._stage.reason or "not ready"}
        wait = {"Retry-After": str(RETRY_AFTER_S)}
        return web.json_response(error, status=503, headers=wait)


@dataclass(frozen=True, slots=True)
class File:
    """A file of the page, whole: they are few and small."""

    body: bytes
    content_type: str
    tag: str


def read_files(folder: Traversable, below: str = "") -> Mapping[str, File]:
    """The folder's files of a known type, by their path below it."""
    return dict(_files(folder, below))


def _files(folder: Traversable, below: str) -> Iterator[tuple[str, File]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{below}{entry.name}/")
        elif content_type := TYPES.get("." + entry.name.rpartition(".")[2]):
            body = entry.read_bytes()
            yield (
                below + entry.name,
                File(body, content_type, hashlib.sha256(body).hexdigest()[:32]),
            )


class Page:
    """`/`, `/watch/{name}`, and below `/web/` what they load.

    A request can name only what was read at start, so no path leads out of the folder.
    """

    paths = ("/", "/watch/{name}", "/web/{path}")

    def __init__(self, files: Mapping[str, File]) -> None:
        self._files = files

    def routes(self) -> list[web.RouteDef]:
        index, watch, files = self.paths
        return [
            web.get(index, self._index),
            web.get(watch, self._watch),
            web.get(files.replace("}", ":.+}"), self._file),
        ]

    async def _index(self, request: web.Request) -> web.Response:
        return self._send(request, "index.html")

    async def _watch(self, request: web.Request) -> web.Response:
        if not is_name(request.match_info["name"]):
            raise web.HTTPNotFound(text="no session can have this name")
        return self._send(request, "watch.html")

    async def _file(self, request: web.Request) -> web.Response:
        return self._send(request, request.match_info["path"])

    def _send(self, request: web.Request, path: str) -> web.Response:
        file = self._files.get(path)
        if file is None:
            raise web.HTTPNotFound()
        # The browser asks each time, so that a new version never meets an old module.
        headers = {"Cache-Control": "no-cache"}
        known = {tag.value for tag in request.if_none_match or ()}
        is_text = file.content_type.startswith("text/")
        response = (
            web.Response(status=304, headers=headers)
            if known & {file.tag, "*"}
            else web.Response(
                body=file.body,
                content_type=file.content_type,
                charset="utf-8" if is_text else None,
                headers=headers,
            )
        )
        response.etag = ETag(file.tag)
        return response


@asynccontextmanager
async def listen(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serves the app until the end of the block; gives the real port, which 0 leaves open.

    `tls`: speaks HTTPS by it; None: plain HTTP.
    A request that is still being answered then has SHUTDOWN_S to finish, and once more to leave.
    Raises SettingsError where the port or the address is not to be had.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        raise SettingsError(
            f"--host {host} is not known: pass an address of this machine"
        ) from None
    with ExitStack() as sockets:
        bound = _bind(sockets, host, port, {str(name[0]): family for family, *_, name in found})
        # No access log: paths hold secrets. Nothing is inflated: see the doors.
        runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            logger=_bugs_only(),
            shutdown_timeout=SHUTDOWN_S,
        )
        await runner.setup()
        real_port: int = bound[0].getsockname()[1]
        try:
            if tls is None:
                for one in bound:
                    await web.SockSite(runner, one, backlog=BACKLOG).start()
                yield real_port
            else:
                assert runner.server is not None
                async with gate(bound, runner.server, tls, _bugs_only()):
                    yield real_port
        finally:
            await runner.cleanup()


def _bugs_only() -> logging.Logger:
    """aiohttp's log of unforeseen errors. What no HTTP parser could read is none: it is the
    client's mistake, answered with 400, and its lines may hold a token."""
    log = logging.getLogger("stream.http")
    if not log.filters:
        log.addFilter(
            lambda it: not (it.exc_info and isinstance(it.exc_info[1], HttpProcessingError))
        )
    return log


def _bind(
    owner: ExitStack, host: str, port: int, addresses: Mapping[str, socket.AddressFamily]
) -> list[socket.socket]:
    """One socket for each address, all on one port. `localhost` is two: one of them suffices."""
    bound: list[socket.socket] = []
    absent: OSError | None = None
    for address, family in addresses.items():
        one = owner.enter_context(socket.socket(family, socket.SOCK_STREAM))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        real_port = bound[0].getsockname()[1] if bound else port
        try:
            one.bind((address, real_port))
            one.listen(BACKLOG)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise _mend(error, host, real_port) from None
            absent = error
        else:
            bound.append(one)
    if not bound:
        assert absent is not None, "a host that resolves has an address"
        raise _mend(absent, host, port) from None
    return bound


def _mend(error: OSError, host: str, port: int) -> Exception:
    match error.errno:
        case errno.EADDRINUSE:
            return SettingsError(f"port {port} is taken: stop its owner or pass --port")
        case errno.EACCES:
            return SettingsError(f"port {port} is kept for the system: pass --port above 1023")
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return SettingsError(
                f"--host {host} is no address of this machine: pass one of its own"
            )
    return error
