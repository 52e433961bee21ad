"""By which names and addresses other machines reach this one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import ifaddr

from stream.hosts import address, bare, is_host, is_loopback
from stream.settings import Settings

Address = IPv4Address | IPv6Address

# Of documentation (RFC 5737, RFC 3849): nobody's, so only the default route leads there.
ELSEWHERE = {4: "192.0.2.254", 6: "2001:db8::fffe"}


def reached_by(settings: Settings) -> list[Address]:
    """The addresses at which others reach these doors, the likeliest first; none: loopback only."""
    listened = address(settings.host)
    if is_loopback(settings.host) or listened is None:
        return []
    if not listened.is_unspecified:
        return [listened]
    return own_addresses(listened.version)


def own_addresses(version: int) -> list[Address]:
    """This machine's, of IP version 4 or 6: the default route's own first.

    No link-local ones: a browser's address bar cannot name the interface they need.
    """
    likely = _towards(ELSEWHERE[version])
    found = {it for it in _of_interfaces() if it.version == version and _is_usable(it)}
    return sorted(found, key=lambda it: (it != likely, not it.is_private, it))


def names_of(settings: Settings) -> set[str]:
    """Every host, name or address, by which these doors may be asked for, in lower case."""
    given = [settings.host, *settings.allowed_hosts]
    if settings.advertise is not None:
        given.append(bare(settings.advertise.partition("://")[2].partition("/")[0]) or "")
    names = {_plain(it) for it in given if it}
    names |= {"localhost", "127.0.0.1", "::1", *_host_names()}
    names |= {str(it) for it in [*own_addresses(4), *reached_by(settings)]}
    return {it for it in names if (at := address(it)) is None or _is_askable(at)}


def in_url(host: str) -> str:
    """As a URL writes it: an IPv6 address in brackets."""
    at = address(host)
    return f"[{at}]" if isinstance(at, IPv6Address) else host


def _plain(host: str) -> str:
    at = address(host)
    return host.lower().removesuffix(".") if at is None else str(at)


def _host_names() -> set[str]:
    """A name without a dot is known to the network, if at all, below .local (RFC 6762)."""
    name = socket.gethostname().lower().removesuffix(".")
    if not is_host(name):
        return set()
    return {name} if "." in name else {name, f"{name}.local"}


def _of_interfaces() -> Iterator[Address]:
    for interface in ifaddr.get_adapters():
        for one in interface.ips:
            yield ip_address(one.ip if isinstance(one.ip, str) else one.ip[0])


def _is_usable(it: Address) -> bool:
    return not (it.is_loopback or it.is_link_local or it.is_unspecified)


def _is_askable(it: Address) -> bool:
    """No URL holds an address of a certain interface only."""
    return not (it.is_unspecified or getattr(it, "scope_id", None))


def _towards(there: str) -> Address | None:
    """The address that packets to there would come from. Connecting a UDP socket sends none."""
    family = socket.AF_INET6 if ":" in there else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))
            return ip_address(probe.getsockname()[0])
    except OSError:
        return None
