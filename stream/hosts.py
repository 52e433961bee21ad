"""Whose a host name is: a loopback's, an address's, nobody's."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+)(?::\d{0,5})?")


def address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that this host is written as; None: it is a name."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def is_host(text: str) -> bool:
    """Whether this is a host name or an address, without a port."""
    if address(text) is not None:
        return True
    return len(text) <= 253 and _HOST_NAME.fullmatch(text.lower()) is not None


def bare(authority: str) -> str | None:
    """The host of a `Host` header: lower case, no port, no brackets; None: malformed."""
    found = _AUTHORITY.fullmatch(authority.lower())
    if found is None:
        return None
    host = found[1].removeprefix("[").removesuffix("]").removesuffix(".")
    return host if is_host(host) else None


def is_loopback(host: str) -> bool:
    """Whether only this machine answers to it: 127.0.0.0/8, ::1, localhost, *.localhost."""
    if (it := address(host)) is not None:
        return it.is_loopback
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761, section 6.3
