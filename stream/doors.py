"""The doors: who may ask, by which name, from which page."""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from stream.hosts import address, bare, is_loopback
from stream.lan import names_of
from stream.settings import Settings

MAX_AGE_S = 600
EXPOSED = "Location, Omokage-Session, ETag, Link, Retry-After, WWW-Authenticate"
TAKEN = "Authorization, Content-Type, If-Match"

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; media-src 'self' blob: mediastream:; img-src 'self' blob: data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
}


def doors(settings: Settings, open_paths: Collection[str]) -> list[Middleware]:
    """The middlewares, the outermost first.

    `open_paths`: the resources, as they were routed, that need no token. All others do.
    """
    return [
        refuse_in_words,
        _check_host(settings),
        _answer_options,
        _check_token(settings.token, frozenset(open_paths)),
        _refuse_encodings,
    ]


def install(app: web.Application, settings: Settings) -> None:
    """Puts the doors' headers on every response of this app, whoever made it."""
    origins = frozenset(settings.cors_origins)

    async def write(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.popall("Server", None)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers.setdefault("Cache-Control", "no-store")
        if response.content_type == "text/html":
            headers.update(PAGE_HEADERS)
        _write_cors(origins, request, response)

    app.on_response_prepare.append(write)


@web.middleware
async def refuse_in_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One plain line where an SDP was expected, `{"error": "…"}` elsewhere."""
    try:
        return await handler(request)
    except web.HTTPException as refused:
        if refused.status < 400:
            raise
        if refused.text == f"{refused.status}: {refused.reason}":
            refused.text = _own_words(request, refused)
        if isinstance(refused, web.HTTPMethodNotAllowed):
            refused.headers["Allow"] = _allow(refused)
        if not request.path.startswith(("/whip", "/whep")):
            refused.text = json.dumps({"error": refused.text})
            refused.content_type = "application/json"
        raise


def _own_words(request: web.Request, refused: web.HTTPException) -> str:
    match refused:
        case web.HTTPMethodNotAllowed():
            return f"{request.method} is not to be had here: use {_allow(refused)}"
        case web.HTTPNotFound():
            return "nothing is here"
    return refused.reason.lower()


def _allow(refused: web.HTTPMethodNotAllowed) -> str:
    return ", ".join(sorted({*refused.allowed_methods, "OPTIONS"}))


def _check_host(settings: Settings) -> Middleware:
    """A page of a stranger may point its own name at this machine (DNS rebinding)."""
    named = set(settings.allowed_hosts)
    if settings.scheme == "https":
        named |= names_of(settings)  # what the certificate holds, the doors answer to
    for host in (settings.host, settings.advertise and settings.advertise.partition("://")[2]):
        if host and (known := bare(host.partition("/")[0])):
            named.add(known)
    # 0.0.0.0 is where we listen, never who we are; browsers take it for this machine.
    named = {host for host in named if (it := address(host)) is None or not it.is_unspecified}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        host = bare(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            raise web.HTTPBadRequest(text="the request has no Host, or a malformed one")
        if not (host in named or is_loopback(host) or _is_own(host, request)):
            raise web.HTTPMisdirectedRequest(
                text=f"this server does not answer to {host}: start it with --allowed-host {host}"
            )
        return await handler(request)

    return check


def _is_own(host: str, request: web.Request) -> bool:
    """Whether the host is the very address that this connection came in by."""
    wanted = address(host)
    socket = request.get_extra_info("sockname")
    if wanted is None or not socket:
        return False
    return not wanted.is_unspecified and wanted == ip_address(socket[0].partition("%")[0])


@web.middleware
async def _answer_options(request: web.Request, handler: Handler) -> web.StreamResponse:
    """OPTIONS on whatever is routed (RFC 9725, section 4.2); a preflight brings no token."""
    unrouted = request.match_info.http_exception
    if request.method == "OPTIONS" and isinstance(unrouted, web.HTTPMethodNotAllowed):
        headers = {"Allow": _allow(unrouted)}
        if "POST" in unrouted.allowed_methods:
            headers["Accept-Post"] = "application/sdp"
        return web.Response(headers=headers)
    return await handler(request)


def _write_cors(
    origins: frozenset[str], request: web.Request, response: web.StreamResponse
) -> None:
    if not origins:
        return
    headers = response.headers
    if "*" not in origins:
        headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin is None or not ("*" in origins or origin in origins):
        return
    headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
    headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        headers["Access-Control-Allow-Methods"] = headers.get("Allow", "")
        headers["Access-Control-Allow-Headers"] = TAKEN
        headers["Access-Control-Max-Age"] = str(MAX_AGE_S)


def _check_token(token: str | None, open_paths: frozenset[str]) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        is_open = resource is not None and resource.canonical in open_paths
        if token is not None and not is_open and not _bears(request, token):
            challenge = 'Bearer realm="omokage"'
            if "Authorization" in request.headers:
                challenge += ', error="invalid_token"'  # RFC 6750, section 3
            raise web.HTTPUnauthorized(
                text="this server asks for its token: send Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": challenge},
            )
        return await handler(request)

    return check


def _bears(request: web.Request, token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


@web.middleware
async def _refuse_encodings(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A few packed bytes could unpack to any length."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType(
            text="a packed body is not taken: send it without Content-Encoding",
            headers={"Accept-Encoding": "identity"},  # RFC 9110, section 15.5.16
        )
    return await handler(request)
