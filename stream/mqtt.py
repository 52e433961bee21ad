"""One connection to an MQTT broker that is entered in time and left for certain.

All that touches aiomqtt's private names is here: it neither closes the socket of a connection
that failed half way nor gives a limit to the connecting itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import aiomqtt
from aiomqtt import MqttCodeError, MqttError, ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from workers.errors import SettingsError

KEEPALIVE_S = 5
CONNECT_S = 2.0
ANSWER_S = 3.0
INCOMING = 1000
UNSUPPORTED_PROTOCOL = 132  # MQTT 5.0, section 3.2.2.2; paho says so for MQTT 3.1.1's 1, too
TAKEN_OVER = 142  # MQTT 5.0, section 3.14.2.1

_quiet = logging.getLogger("omokage.mqtt")
_quiet.setLevel(logging.CRITICAL)  # what happens to a connection, its owner says once
_quiet.propagate = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is and who we are there; as text, it holds no credentials."""

    host: str
    port: int
    is_secure: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    protocol: ProtocolVersion = ProtocolVersion.V5  # to try first

    @classmethod
    def parse(cls, url: str) -> Address:
        """From `mqtt://user:password@host:port` or `mqtts://…`. Raises SettingsError."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            # The URL may hold a password, so it is not repeated.
            raise SettingsError("the broker's URL is none: write it as mqtt://host:1883")
        is_secure = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port or (8883 if is_secure else 1883),
            is_secure=is_secure,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.is_secure else 'mqtt'}://{host}:{self.port}"


def is_protocol_refused(error: MqttError) -> bool:
    return isinstance(error, MqttCodeError) and _code(error) == UNSUPPORTED_PROTOCOL


def is_taken_over(error: MqttError) -> bool:
    """Somebody else has connected under our client id."""
    cause = error.__cause__
    return isinstance(cause, MqttCodeError) and _code(cause) == TAKEN_OVER


def expiring(seconds: int) -> Properties:
    """MQTT 5's: the broker forgets the message after so long."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
    properties.MessageExpiryInterval = seconds
    return properties


class Unanswered(MqttError):
    """The broker took the connection and then said nothing."""


class Connection:
    """An open connection. Every wait ends within `ANSWER_S`, in MqttError if in nothing else."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client

    async def subscribe(self, *topics: str) -> None:
        await self._client.subscribe([(topic, 1) for topic in topics])

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties | None
    ) -> None:
        """Until it is written (QoS 0) or the broker has it (QoS 1)."""
        await self._client.publish(topic, payload, qos, retain, properties)

    async def messages(self) -> AsyncIterator[aiomqtt.Message]:
        """What the broker sends. Raises MqttError when the connection is lost."""
        async for message in self._client.messages:
            yield message

    async def say_goodbye(self) -> None:
        """Leaves in good order, so that the broker drops our will."""
        await self._client.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def connect(
    address: Address, identifier: str, protocol: ProtocolVersion, will: aiomqtt.Will
) -> AsyncIterator[Connection]:
    """A connection; leaving it without `say_goodbye` has the broker publish the will.

    Raises MqttError, and of these Unanswered where only the protocol may be at fault.
    """
    tls = await asyncio.to_thread(ssl.create_default_context) if address.is_secure else None
    client = aiomqtt.Client(
        address.host,
        address.port,
        username=address.user,
        password=address.password,
        identifier=identifier,
        protocol=protocol,
        will=will,
        keepalive=KEEPALIVE_S,
        timeout=ANSWER_S,
        tls_context=tls,
        logger=_quiet,
        max_queued_incoming_messages=INCOMING,
    )
    client._client.connect_timeout = CONNECT_S
    try:
        await _enter(client)
        # asyncio would complain of an exception that nobody fetched.
        client._disconnected.add_done_callback(lambda it: it.cancelled() or it.exception())
        yield Connection(client)
    finally:
        _hang_up(client)


async def _enter(client: aiomqtt.Client) -> None:
    try:
        await client.__aenter__()
    except asyncio.CancelledError:
        # When the socket ends, aiomqtt asks this for its exception, which a cancelled one raises.
        client._connected = asyncio.get_running_loop().create_future()
        raise
    except MqttCodeError:
        raise
    except MqttError as error:
        if client._misc_task is not None:  # made once there is a socket
            raise Unanswered("the broker does not answer") from error
        raise


def _hang_up(client: aiomqtt.Client) -> None:
    """Ends the socket; aiomqtt's reader then sees the end and tidies up."""
    sock = client._client.socket()
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _code(error: MqttCodeError) -> int | None:
    return error.rc if isinstance(error.rc, int) else getattr(error.rc, "value", None)
