"""The MQTT broker: the one that would be embedded, or the user's own, tried out."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import secrets
import socket
import ssl
import subprocess
from collections.abc import Sequence
from typing import Any

import aiomqtt
from aiomqtt import MqttCodeError, MqttError, ProtocolVersion

from stream.broker import find_mosquitto
from stream.contract import MAJOR
from stream.doctor.aside import aside
from stream.doctor.finding import Finding, error, ok, warning
from stream.mqtt import Address, Unanswered, connect, is_protocol_refused
from stream.settings import Settings

ASK_S = 2.0
TRIP_S = 3.0
LEAST_MOSQUITTO = (1, 6)  # whose configuration knows all that ours says
MISSING = "mosquitto is not installed, so a slower broker in Python would serve, MQTT 3.1.1 only"


async def look(settings: Settings) -> list[Finding]:
    if settings.broker_url is None:
        return [await aside(_embedded)]
    return [await _external(settings)]


# ------------------------------------------------------------------- embedded


def _embedded() -> Finding:
    program = find_mosquitto()
    has_amqtt = importlib.util.find_spec("amqtt") is not None
    return judge_embedded(program, _version(program) if program else None, has_amqtt=has_amqtt)


def judge_embedded(program: str | None, said: str | None, *, has_amqtt: bool) -> Finding:
    """`said`: the first line of its help; None: it could not be run."""
    if program is None:
        mend = "apt-get install mosquitto, or pass --broker-url"
        return (
            warning("broker", MISSING, mend)
            if has_amqtt
            else error("broker", "neither mosquitto nor amqtt is installed", mend)
        )
    found = re.search(r"version (\d+)\.(\d+)\S*", said or "")
    if found is None:
        return error("broker", f"{program} does not run", "install it anew, or pass --broker-url")
    if (int(found[1]), int(found[2])) < LEAST_MOSQUITTO:
        least = ".".join(map(str, LEAST_MOSQUITTO))
        return error("broker", f"{program}, {found[0]}", f"install {least} or newer")
    return ok("broker", f"{program}, {found[0]}")


def _version(program: str) -> str | None:
    try:
        done = subprocess.run(
            [program, "-h"], stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").partition("\n")[0]


# ------------------------------------------------------------------- external


async def _external(settings: Settings) -> Finding:
    assert settings.broker_url is not None
    address = Address.parse(settings.broker_url)
    trouble = await _reach(address)
    if trouble is not None:
        return trouble
    topic = f"{settings.topic_prefix}/{MAJOR}/{settings.node}/doctor"
    # Not the node's own name: the broker would hang up on a node that runs.
    who = f"omokage-{settings.node}-doctor-{secrets.token_hex(3)}"
    try:
        return await _round_trip(address, who, topic, ProtocolVersion.V5)
    except MqttError as refused:
        if not (is_protocol_refused(refused) or isinstance(refused, Unanswered)):
            return judge_refusal(address, refused)
    try:
        return await _round_trip(address, who, topic, ProtocolVersion.V311)
    except MqttError as refused:
        return judge_refusal(address, refused)


async def _reach(address: Address) -> Finding | None:
    """The connection below MQTT, step by step; None: it stands."""
    tls = await aside(ssl.create_default_context) if address.is_secure else None
    try:
        async with asyncio.timeout(ASK_S):
            found = await aside(
                socket.getaddrinfo, address.host, address.port, type=socket.SOCK_STREAM
            )
            _, writer = await asyncio.open_connection(
                sock=await _connected(found), ssl=tls, server_hostname=address.host if tls else None
            )
    except (OSError, TimeoutError) as refused:
        return judge_unreached(address, refused)
    writer.close()
    return None


async def _connected(found: Sequence[tuple[Any, ...]]) -> socket.socket:
    """To the first of these that takes it. Any: as the resolver gives them."""
    refused: OSError | None = None
    for family, kind, number, _, at in found:
        one = socket.socket(family, kind, number)
        one.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(one, at)
        except OSError as error:
            refused = error
            one.close()
        except BaseException:
            one.close()
            raise
        else:
            return one
    assert refused is not None, "a host that resolves has an address"
    raise refused


def judge_unreached(address: Address, refused: Exception) -> Finding:
    match refused:
        case socket.gaierror():
            said, mend = "its host is not known", "mend --broker-url, or the name's entry"
        case ssl.SSLCertVerificationError():
            said = f"its certificate is not trusted ({refused.verify_message})"
            mend = "use the name that it is for, or add its authority to this machine's"
        case ssl.SSLError():
            said, mend = "it speaks no TLS on this port", "write mqtt://, or the port of its TLS"
        case ConnectionRefusedError():
            said, mend = "nobody listens there", "start it, or mend the port in --broker-url"
        case TimeoutError():
            said = f"no answer within {ASK_S:.0f} s"
            mend = "see whether it runs, and whether a firewall lets this machine reach it"
        case _:
            said, mend = str(refused).lower(), "mend --broker-url, or the way there"
    return error("broker", f"{address}: {said}", mend)


def judge_refusal(address: Address, refused: MqttError) -> Finding:
    reason = str(refused)
    if isinstance(refused, MqttCodeError):
        mend = "mend the user and password in --broker-url, or the broker's rules"
        return error("broker", f"{address}: it refuses us ({reason})", mend)
    mend = "see whether this port speaks MQTT, as mqtt:// or as mqtts://"
    return error("broker", f"{address}: no MQTT ({reason})", mend)


async def _round_trip(address: Address, who: str, topic: str, protocol: ProtocolVersion) -> Finding:
    """One message out and back, kept by nobody. Raises MqttError where there is no connection."""
    will = aiomqtt.Will(topic, b"", qos=0, retain=False)  # taken back by the farewell
    spoken = "5" if protocol is ProtocolVersion.V5 else "3.1.1"
    async with connect(address, who, protocol, will) as line:
        try:
            async with asyncio.timeout(TRIP_S):
                await line.subscribe(topic)
                word = secrets.token_hex(8).encode()
                await line.publish(topic, word, qos=1, retain=False, properties=None)
                async for message in line.messages():
                    if message.payload == word:
                        break
        except (TimeoutError, MqttError):
            said = f"{address}: what was published to {topic} did not come back"
            mend = "let this user publish and subscribe there, and below the whole prefix"
            return error("broker", said, mend)
        await line.say_goodbye()
    return ok("broker", f"{address}: MQTT {spoken}, published and heard")
