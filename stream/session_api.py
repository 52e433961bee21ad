"""What a session's owner may change of it, by its secret: its portrait, its controls."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from aiohttp import ETag, web

from stream.controls import Controls, read_json
from stream.names import is_name
from stream.signalling import GONE, Stage, refusal
from workers.errors import OmokageError, PortraitRefused
from workers.picture import MOST_BYTES

PICTURES = ("image/png", "image/jpeg", "image/webp")
JSON = "application/json"
MOST_JSON_BYTES = 4096
JSON_S = 10.0
PICTURE_S = 60.0  # 8 MB at 1.1 Mbit/s
FRESH_S = 300  # the page's own pictures; then it asks whether they have changed


class SessionApi:
    """`advertise`: the base of every link; None: that of the request."""

    def __init__(self, stage: Stage, advertise: str | None) -> None:
        self._stage = stage
        self._advertise = advertise

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/portraits", self._portraits),
            web.get("/portraits/{name}", self._portrait),
            web.put("/sessions/{secret}/portrait", self._wear),
            web.get("/sessions/{secret}/controls", self._controls),
            web.patch("/sessions/{secret}/controls", self._change),
            web.put("/sessions/{secret}/controls", self._replace),
        ]

    # -------------------------------------------------------------- portraits

    async def _portraits(self, request: web.Request) -> web.Response:
        base = self._advertise or f"{request.scheme}://{request.host}"
        names = self._stage.portraits()
        listed = [
            {"name": name, "default": at == 0, "url": f"{base}/portraits/{name}"}
            for at, name in enumerate(names)
        ]
        uploads = self._stage.state().takes_portraits
        return web.json_response({"portraits": listed, "uploads": uploads})

    async def _portrait(self, request: web.Request) -> web.Response:
        try:
            body = await self._stage.portrait_file(request.match_info["name"])
        except OmokageError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        tag = hashlib.sha256(body).hexdigest()[:32]
        headers = {"Cache-Control": f"private, max-age={FRESH_S}"}
        known = {it.value for it in request.if_none_match or ()}
        response = (
            web.Response(status=304, headers=headers)
            if known & {tag, "*"}
            else web.Response(body=body, content_type="image/webp", headers=headers)
        )
        response.etag = ETag(tag)
        return response

    async def _wear(self, request: web.Request) -> web.Response:
        async def portrait() -> bytes | str:
            match request.content_type.lower():
                case "application/json":
                    return _name_in(await _read(request, MOST_JSON_BYTES, JSON_S))
                case it if it in PICTURES:
                    return await _read(request, MOST_BYTES, PICTURE_S)
            raise web.HTTPUnsupportedMediaType(
                text=f"send a picture as {', '.join(PICTURES)}, or a name as {JSON}",
                headers={"Accept": ", ".join((*PICTURES, JSON))},
            )

        try:
            await self._stage.wear(request.match_info["secret"], portrait)
        except OmokageError as error:
            raise refusal(error) from error
        return web.Response(status=204)

    # --------------------------------------------------------------- controls

    async def _controls(self, request: web.Request) -> web.Response:
        return web.json_response(self._controls_of(request).told())

    async def _change(self, request: web.Request) -> web.Response:
        return await self._set(request, Controls.change)

    async def _replace(self, request: web.Request) -> web.Response:
        return await self._set(request, Controls.replace)

    async def _set(
        self, request: web.Request, how: Callable[[Controls, object], None]
    ) -> web.Response:
        self._controls_of(request)  # before a body is read
        if request.content_type.lower() != JSON:
            raise web.HTTPUnsupportedMediaType(
                text=f"the body must be sent as Content-Type: {JSON}", headers={"Accept": JSON}
            )
        body = await _read(request, MOST_JSON_BYTES, JSON_S)
        controls = self._controls_of(request)  # it may have ended meanwhile
        try:
            how(controls, read_json(_text(body)))
        except OmokageError as error:
            raise refusal(error) from error
        return web.json_response(controls.told())

    def _controls_of(self, request: web.Request) -> Controls:
        controls = self._stage.controls(request.match_info["secret"])
        if controls is None:
            raise web.HTTPNotFound(text=GONE)
        return controls


def _name_in(body: bytes) -> str:
    """Raises PortraitRefused for what names no portrait."""
    match read_json(_text(body)):
        case {"name": str(name)} if is_name(name):
            return name
    raise PortraitRefused('send the name of a shipped portrait, as in {"name": "…"}')


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")  # which JSON then refuses, or takes within a text


async def _read(request: web.Request, most_bytes: int, within_s: float) -> bytes:
    """The whole body. The app's own limit is an offer's."""
    if (request.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for part in request.content.iter_any():
                body += part
                if len(body) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError:
        slow = web.HTTPRequestTimeout(text=f"the body did not arrive within {within_s:g} s")
        slow.force_close()
        raise slow from None
    return bytes(body)


def _too_large(most_bytes: int) -> web.HTTPException:
    size = f"{most_bytes >> 20} MB" if most_bytes >= 1 << 20 else f"{most_bytes} bytes"
    return web.HTTPRequestEntityTooLarge(most_bytes, text=f"the body is over {size}: send less")
