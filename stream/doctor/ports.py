"""The ports that would be listened on, bound for a moment."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack

from stream import broker
from stream.doctor.finding import Finding, error, ok, warning
from stream.doctor.sockets import owner_of
from stream.network import Ports
from stream.settings import Settings

Owner = Callable[[int], str | None]


def look(settings: Settings) -> list[Finding]:
    found = [_door(settings)]
    if settings.broker_url is None:
        found.append(_broker(settings.broker_port))
    if settings.udp_ports is not None:
        found.append(_media(settings.udp_ports, settings.max_sessions))
    return found


def _door(settings: Settings) -> Finding:
    host, port = settings.host, settings.port
    try:
        resolved = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return error("http", f"--host {host} is not known", "pass an address of this machine")
    refused: OSError | None = None
    for family, *_, address in dict.fromkeys(resolved):
        refused = try_to_listen(family, str(address[0]), port)
        if refused is None:
            break  # `localhost` is two addresses, of which one suffices
        if refused.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            break
    return judge_port("http", f"{host}:{port}", port, refused, "--port", tcp_owner)


def _broker(port: int) -> Finding:
    refused = try_to_listen(socket.AF_INET, broker.HOST, port)
    mend = "--broker-port (or --broker-url to use that broker)"
    return judge_port("broker port", f"{broker.HOST}:{port}", port, refused, mend, tcp_owner)


def judge_port(
    topic: str, place: str, port: int, refused: OSError | None, flag: str, owner: Owner
) -> Finding:
    """`refused`: what listening met; None: it could be had."""
    if refused is None:
        return ok(topic, f"{place} is free" if port else f"{place}: any free port")
    match refused.errno:
        case errno.EADDRINUSE:
            whose = owner(port)
            by = f" by {whose}" if whose else ""
            return error(topic, f"port {port} is taken{by}", f"stop its owner or pass {flag}")
        case errno.EACCES | errno.EPERM:
            said = f"port {port} is kept for the system"
            return error(topic, said, f"pass {flag} above 1023")
        case errno.EADDRNOTAVAIL:
            said = f"{place} is no address of this machine"
            return error(topic, said, "pass one of its own, or 0.0.0.0, as --host")
    reason = (refused.strerror or os.strerror(refused.errno or 0)).lower()
    return error(topic, f"{place} cannot be listened on ({reason})", f"pass another {flag}")


def _media(ports: Ports, max_sessions: int) -> Finding:
    taken = [port for port in range(ports.low, ports.high + 1) if not _is_free_udp(port)]
    return judge_media(ports, taken, max_sessions, lambda port: owner_of("udp", port))


def judge_media(ports: Ports, taken: list[int], max_sessions: int, owner: Owner) -> Finding:
    free = len(ports) - len(taken)
    said = f"{free} of the {len(ports)} UDP ports {ports} are free"
    if not taken:
        return ok("media ports", said)
    whose = owner(taken[0])
    said += f"; {taken[0]} is taken" + (f" by {whose}" if whose else "")
    if free < max_sessions:
        said += f", and {max_sessions} sessions need one each"
        return error("media ports", said, "stop its owner, or pass other --udp-ports")
    return warning("media ports", said, "stop its owner, or pass other --udp-ports")


def try_to_listen(family: int, host: str, port: int) -> OSError | None:
    """What the kernel says, the way that the server asks it."""
    with ExitStack() as stack:
        try:
            one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((host, port))
            one.listen(1)
        except OSError as refused:
            return refused
    return None


def tcp_owner(port: int) -> str | None:
    return owner_of("tcp", port)


def _is_free_udp(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
