"""The ways for media: each STUN and TURN server asked, each announced address looked for."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass

from aioice import stun, turn

from stream.doctor.aside import aside
from stream.doctor.finding import Finding, error, ok, warning
from stream.hosts import address, is_loopback
from stream.lan import own_addresses
from stream.network import IceServer
from stream.settings import Settings

ANSWER_S = 3.0
AGAIN_S = 0.5  # a request may be lost on its way
FAREWELL_S = 1.0
USUAL = {"stun": 3478, "turn": 3478, "turns": 5349}  # RFC 7064, RFC 7065
REFUSED_LOGIN = {401, 441}  # RFC 8656, section 5; RFC 8489, section 14.8
NO_MORE = {486, 508}  # RFC 8656, section 19: the user's share, the server's all


@dataclass(frozen=True, slots=True)
class Place:
    """Where an ICE server is; as text without its login."""

    scheme: str
    host: str
    port: int
    transport: str  # udp or tcp

    @classmethod
    def of(cls, server: IceServer) -> Place:
        found = re.fullmatch(r"(\w+):([^:?]+)(?::(\d+))?(?:\?transport=(\w+))?", server.url)
        assert found is not None, "the settings took it"
        scheme = found[1]
        usual = "tcp" if scheme == "turns" else "udp"
        return cls(scheme, found[2], int(found[3] or USUAL[scheme]), found[4] or usual)

    def __str__(self) -> str:
        over = f" over {self.transport}" if self.scheme != "stun" else ""
        return f"{self.scheme}:{self.host}:{self.port}{over}"


async def look(settings: Settings) -> list[Finding]:
    asked = await asyncio.gather(*map(_ask, settings.ice_servers))
    seen_as = {seen for _, seen in asked if seen is not None}
    own = {str(it) for version in (4, 6) for it in own_addresses(version)}
    return [
        *(found for found, _ in asked),
        *judge_announced(settings, own, seen_as),
        *([] if asked or settings.announce else [judge_bare(settings)]),
    ]


def judge_bare(settings: Settings) -> Finding:
    if is_loopback(settings.host):
        return ok("ice", "no servers, and none needed on this machine itself")
    return ok("ice", "no servers: peers must reach this machine's own addresses")


def judge_announced(
    settings: Settings, own: Collection[str], seen_as: Collection[str]
) -> list[Finding]:
    """`seen_as`: this machine's addresses as STUN servers saw them."""
    found = []
    for it in settings.announce:
        if it in own:
            found.append(ok("announce", f"{it} is this machine's own"))
            continue
        if settings.udp_ports is None:
            said = f"{it} leads here by a NAT, which maps certain ports only"
            found.append(warning("announce", said, "pass the range that it maps, by --udp-ports"))
        elif it in seen_as:
            found.append(ok("announce", f"{it} is what a STUN server sees"))
        elif seen_as:
            said = f"{it}, while a STUN server sees {', '.join(sorted(seen_as))}"
            found.append(warning("announce", said, "announce the address that leads here"))
        else:
            said = f"{it} is none of this machine's addresses"
            mend = "see whether the NAT maps it here; an --ice-server stun:… would tell"
            found.append(warning("announce", said, mend))
    return found


# -------------------------------------------------------------------- servers


async def _ask(server: IceServer) -> tuple[Finding, str | None]:
    """What came of it, and the address that the server saw us by."""
    place = Place.of(server)
    try:
        async with asyncio.timeout(ANSWER_S):
            at = await _resolved(place)
            if place.scheme == "stun":
                seen = await _bind(at)
                return ok("ice", f"{place} answers: it sees {seen}"), seen
            relay, seen = await _allocate(server, place, at)
            return ok("ice", f"{place} answers and takes the login: it relays by {relay}"), seen
    except Exception as refused:  # what aioice meets, and its own assertions about answers
        return judge_failure(place, refused), None


def judge_failure(place: Place, refused: Exception) -> Finding:
    match refused:
        case socket.gaierror():
            said, mend = "its host is not known", "mend --ice-server, or the name's entry"
        case stun.TransactionFailed():
            said, mend = _refusal(refused.response)
        case TimeoutError() | stun.TransactionTimeout():
            said = f"no answer within {ANSWER_S:.0f} s"
            mend = "see whether it runs, and whether firewalls let this machine reach it"
        case ssl.SSLCertVerificationError():
            said = f"its certificate is not trusted ({refused.verify_message})"
            mend = "use the name that it is for, or add its authority to this machine's"
        case ConnectionRefusedError():
            said, mend = "nobody listens there", "start it, or mend the port in --ice-server"
        case _:
            said = str(refused).lower() or type(refused).__name__
            mend = "see whether it is such a server"
    return error("ice", f"{place}: {said}", mend)


def _refusal(response: stun.Message) -> tuple[str, str]:
    code, words = response.attributes.get("ERROR-CODE", (0, "no reason given"))
    said = f"{words} ({code})".lower()
    if code in REFUSED_LOGIN:
        return f"it refuses the login: {said}", "mend the user and credential in --ice-server"
    if code in NO_MORE:
        return f"it has nothing left to give: {said}", "raise its quota, or end old allocations"
    return f"it refuses: {said}", "its own log says why"


async def _resolved(place: Place) -> tuple[str, int]:
    kind = socket.SOCK_DGRAM if place.transport == "udp" else socket.SOCK_STREAM
    found = await aside(socket.getaddrinfo, place.host, place.port, type=kind)
    *_, at = min(found, key=lambda it: it[0] != socket.AF_INET)
    return str(at[0]), int(at[1])


class _Asker(asyncio.DatagramProtocol):
    """One STUN binding (RFC 8489)."""

    def __init__(self) -> None:
        self.request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        self.answer: asyncio.Future[stun.Message] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            message = stun.parse_message(data)
        except ValueError:
            return
        if message.transaction_id != self.request.transaction_id or self.answer.done():
            return
        if message.message_class is stun.Class.RESPONSE:
            self.answer.set_result(message)
        elif message.message_class is stun.Class.ERROR:
            self.answer.set_exception(stun.TransactionFailed(message))

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _bind(at: tuple[str, int]) -> str:
    """The address that the server sees. Raises OSError, TransactionFailed, ValueError; asks again
    and again until it is cancelled."""
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_datagram_endpoint(_Asker, remote_addr=at)
    try:
        while not asker.answer.done():
            transport.sendto(bytes(asker.request))
            await asyncio.wait([asker.answer], timeout=AGAIN_S)
        return _seen(asker.answer.result())
    finally:
        transport.close()


def _seen(message: stun.Message) -> str:
    for name in ("XOR-MAPPED-ADDRESS", "MAPPED-ADDRESS"):
        if name in message.attributes:
            host = str(message.attributes[name][0])
            return str(address(host) or host)
    raise ValueError("its answer holds no address")


class _Relayed(asyncio.DatagramProtocol):
    """Learns when the allocation is given back."""

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended.set()


async def _allocate(server: IceServer, place: Place, at: tuple[str, int]) -> tuple[str, str]:
    """A relay, given back at once: its address, and ours as the server sees it."""
    tls = await aside(ssl.create_default_context) if place.scheme == "turns" else None
    transport, relayed = await turn.create_turn_endpoint(
        _Relayed,
        server_addr=(place.host, at[1]) if tls else at,  # a certificate is for a name
        username=server.username,
        password=server.credential,
        ssl=tls,
        transport=place.transport,
    )
    relay = str(transport.get_extra_info("sockname")[0])
    seen = str(transport.get_extra_info("related_address")[0])
    transport.close()
    async with asyncio.timeout(FAREWELL_S):
        await relayed.has_ended.wait()
    return relay, seen
