"""WHIP and WHEP: an offer comes in over HTTP, the stage answers it (RFC 9725)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from aiohttp import web
from aiortc import RTCIceCandidate

from stream.controls import Controls
from stream.names import FORM, is_name
from stream.network import IceServer
from stream.sdp import MAX_BYTES, Offer, check_fragment, check_publisher, check_viewer
from workers.errors import (
    ControlRefused,
    ModelError,
    NameRefused,
    NameTaken,
    NoPortraits,
    NoSuchSession,
    OfferError,
    OfferUnsupported,
    OmokageError,
    PortraitOvertaken,
    PortraitRefused,
    ServerFull,
)
from workers.messages import ControlRange, Tally
from workers.picture import NoPicture

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
GONE = "no session or viewer is here: it may have ended"
Checked = TypeVar("Checked")

BODY_S = 10.0
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Published:
    """A session that was admitted."""

    answer: str  # SDP
    secret: str  # ends and changes it; URL-safe
    name: str  # public


@dataclass(frozen=True, slots=True)
class Watching:
    """A viewer that was admitted."""

    answer: str  # SDP
    secret: str  # ends it; URL-safe


@dataclass(frozen=True, slots=True)
class SessionView:
    """What everybody may know of a session. Figures are of the last second; None: none yet."""

    name: str
    state: str  # joining, live, holding, ended
    reason: str | None
    since: str  # RFC 3339, UTC: when it came into this state
    source: str  # webrtc, rtsp
    avatar: str | None
    viewers: int
    in_fps: float | None = None
    out_fps: float | None = None
    age_ms: float | None = None  # of a frame when it leaves the worker, median
    fill_ratio: float | None = None  # 0 to 1: the copies' share of its worker's batches
    memory_bytes: int | None = None  # of its worker
    memory_kind: str = "process"  # gpu: what CUDA has reserved; process: the worker's RSS
    device: str | None = None
    batch_size: int | None = None
    frames: Tally = field(default_factory=Tally)  # since it began
    frames_shown: int = 0  # of the emitted: taken out of the outbox for the encoders


@dataclass(frozen=True, slots=True)
class QueueMark:
    """The fullest that a kind of queue has been, in any live session."""

    name: str
    high_water: int
    bound: int


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's capacity and load."""

    node: str
    boot_id: str
    version: str
    phase: str  # warming, serving, draining, failed
    model: str
    sessions: int
    sessions_limit: int
    viewers: int
    batch_sizes: tuple[int, ...] = ()  # empty until the model is loaded
    width: int | None = None
    height: int | None = None
    device: str | None = None
    busy_ratio: float | None = None  # 0 to 1, of the last second
    fill_ratio: float | None = None
    memory_bytes: int | None = None
    memory_kind: str = "process"
    queues: tuple[QueueMark, ...] = ()
    takes_portraits: bool = False
    controls: Mapping[str, ControlRange] = field(default_factory=dict)


class Stage(Protocol):
    """What the doors lead to: sessions and viewers. An offer that it gets was checked."""

    @property
    def ready(self) -> bool:
        """Whether warm-up is over and sessions are admitted."""
        ...

    @property
    def reason(self) -> str | None:
        """Why not, in words; None where it is ready."""
        ...

    async def publish(self, name: str | None, offer: str, portrait: str | None = None) -> Published:
        """Admits a session; None: it gets a name. Leaves nothing behind when it raises.

        portrait: a shipped one's name; None: the default. Raises OfferError, ServerFull,
        NameTaken, NameRefused, NoPortraits or PortraitRefused.
        """
        ...

    async def watch(self, name: str, offer: str) -> Watching:
        """Admits a viewer. Raises NoSuchSession or OfferError, ServerFull above a limit."""
        ...

    async def end(self, secret: str) -> bool:
        """Ends the session or the viewer; False: there is none of this secret."""
        ...

    def ice_ufrags(self, secret: str) -> frozenset[str] | None:
        """Under which names the peer of this secret offered; None: there is none."""
        ...

    async def trickle(self, secret: str, candidates: Sequence[RTCIceCandidate]) -> None:
        """More of a peer's candidates. Raises OfferError for too many."""
        ...

    def portraits(self) -> Sequence[str]:
        """The names of those that come with the model, the default first."""
        ...

    async def portrait_file(self, name: str) -> bytes:
        """A shipped portrait as WebP. Raises NoSuchPortrait."""
        ...

    async def wear(self, secret: str, portrait: Callable[[], Awaitable[bytes | str]]) -> None:
        """Gives the session another portrait; returns when it is in use.

        portrait: asked for a picture's file, or a shipped one's name, once it is this request's
        turn. Raises NoSuchSession, NoPortraits, PortraitRefused, PortraitOvertaken, ServerFull,
        or ModelError when it could not be looked at.
        """
        ...

    def controls(self, secret: str) -> Controls | None:
        """The session's; None: there is none of this secret."""
        ...

    def sessions(self) -> Sequence[SessionView]: ...

    def session(self, name: str) -> SessionView | None: ...

    def state(self) -> NodeState: ...


class Signalling:
    """The endpoints `/whip`, `/whip/{name}` and `/whep/{name}`, and the resources they make.

    `advertise`: the base of every link; None: the scheme and the checked `Host` of the request.
    """

    def __init__(
        self, stage: Stage, advertise: str | None, ice_servers: Sequence[IceServer] = ()
    ) -> None:
        self._ice_links = [it.link for it in ice_servers]
        self._stage = stage
        self._advertise = advertise

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.post("/whip", self._publish),
            web.post("/whip/{name}", self._publish),
            web.post("/whep/{name}", self._watch),
            web.delete("/whip/sessions/{secret}", self._end),
            web.delete("/whep/sessions/{secret}", self._end),
            web.patch("/whip/sessions/{secret}", self._trickle),
            web.patch("/whep/sessions/{secret}", self._trickle),
        ]

    async def _publish(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name")
        try:
            if name is not None and not is_name(name):
                raise NameRefused(f"a session's name must be of the form {FORM}")
            offer = await _read_offer(request, check_publisher)
            if not self._stage.ready:
                raise _not_now(self._stage.reason or "the server admits no session now")
            portrait = request.query.get("portrait")
            published = await self._stage.publish(name, offer.text, portrait)
        except OmokageError as error:
            raise refusal(error) from error
        return self._created(request, "whip", published.secret, published.answer, published.name)

    async def _watch(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            if self._stage.session(name) is None:
                raise NoSuchSession("no session has this name: GET /sessions lists them")
            offer = await _read_offer(request, check_viewer)
            watching = await self._stage.watch(name, offer.text)
        except OmokageError as error:
            raise refusal(error) from error
        return self._created(request, "whep", watching.secret, watching.answer, name)

    async def _trickle(self, request: web.Request) -> web.Response:
        """RFC 9725, section 4.3.1: only the ICE session that the ETag names takes candidates."""
        secret = request.match_info["secret"]
        ufrags = self._stage.ice_ufrags(secret)
        if ufrags is None:
            raise web.HTTPNotFound(text=GONE)
        _check_precondition(request, ice_tag(secret))
        try:
            fragment = await _read(request, FRAGMENT, check_fragment)
            if not fragment.ufrags <= ufrags:
                raise OfferUnsupported(
                    "an ICE restart is not to be had here; the session goes on as it was: "
                    "where the network has changed for good, DELETE it and POST a new offer"
                )
            await self._stage.trickle(secret, fragment.candidates)
        except OmokageError as error:
            raise refusal(error) from error
        return web.Response(status=204)

    async def _end(self, request: web.Request) -> web.Response:
        if not await self._stage.end(request.match_info["secret"]):
            raise web.HTTPNotFound(text=GONE)
        return web.Response()

    def _created(
        self, request: web.Request, kind: str, secret: str, answer: str, name: str
    ) -> web.Response:
        # Absolute: clients resolve a relative one against whatever they were configured with.
        base = self._advertise or f"{request.scheme}://{request.host}"
        headers = {
            "Location": f"{base}/{kind}/sessions/{secret}",
            "Omokage-Session": name,
            "ETag": f'"{ice_tag(secret)}"',
        }
        response = web.Response(status=201, text=answer, content_type=SDP, headers=headers)
        for link in self._ice_links:
            response.headers.add("Link", link)
        return response


def ice_tag(secret: str) -> str:
    """The entity tag of a resource's ICE session: it has one alone, as ICE never restarts here."""
    return hashlib.sha256(f"ice {secret}".encode()).hexdigest()[:16]


def _check_precondition(request: web.Request, tag: str) -> None:
    # @eyevinn/whip-web-client sends the tag back under its own name.
    header = request.headers.get("If-Match", request.headers.get("ETag"))
    if header is None:
        if request.path.startswith("/whep/"):
            return  # npm's whip-whep watches without it; the ice-ufrag tells as much
        raise web.HTTPPreconditionRequired(text="send If-Match with the ETag of the 201")
    if header.strip() != "*" and f'"{tag}"' not in [it.strip() for it in header.split(",")]:
        raise web.HTTPPreconditionFailed(text="If-Match names another ICE session than this one's")


def refusal(error: OmokageError) -> web.HTTPException:
    """How HTTP says it. RFC 9725, sections 4.2 and 4.4.3, leave 400 for what is malformed and
    422 for what is understood but cannot be had; section 4.5 has 503 with Retry-After."""
    text = str(error)
    match error:
        case NoPicture():
            return web.HTTPUnsupportedMediaType(text=text)
        case OfferUnsupported() | PortraitRefused() | ControlRefused():
            return web.HTTPUnprocessableEntity(text=text)
        case OfferError() | NameRefused():
            return web.HTTPBadRequest(text=text)
        case NoSuchSession():
            return web.HTTPNotFound(text=text)
        case NameTaken() | NoPortraits() | PortraitOvertaken():
            return web.HTTPConflict(text=text)
        case ServerFull() | ModelError():  # which is the preparer's trouble, not the client's
            return _not_now(text)
    raise error


def _not_now(text: str) -> web.HTTPException:
    return web.HTTPServiceUnavailable(text=text, headers={"Retry-After": str(RETRY_AFTER_S)})


async def _read_offer(request: web.Request, check: Callable[[str], Offer]) -> Offer:
    return await _read(request, SDP, check)


async def _read(
    request: web.Request, content_type: str, check: Callable[[str], Checked]
) -> Checked:
    """The body, checked. `Content-Type` may be of any case and have parameters."""
    if request.content_type.lower() != content_type:
        raise web.HTTPUnsupportedMediaType(
            text=f"the body must be sent as Content-Type: {content_type}",
            headers={"Accept-Post" if content_type == SDP else "Accept-Patch": content_type},
        )
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        slow = web.HTTPRequestTimeout(text=f"the body did not arrive within {BODY_S:g} s")
        slow.force_close()
        raise slow from None
    except web.HTTPRequestEntityTooLarge:
        raise web.HTTPRequestEntityTooLarge(
            MAX_BYTES, text=f"the body is over {MAX_BYTES} bytes: send a smaller offer"
        ) from None
    try:
        return check(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise OfferError("the body is not UTF-8: send it as text") from None
