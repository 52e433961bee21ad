"""How the text of a setting becomes its value.

Each function takes what the user wrote, and raises ValueError with the end of a sentence that
begins with it: the trouble and the mend. What it calls for may be quoted, the text itself not:
it can be a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from stream.hosts import address, is_host
from stream.names import FORM, is_name
from stream.network import IceServer, Ports
from workers.geometry import Geometry

E = TypeVar("E", bound=Enum)

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Camera:
    """An RTSP camera and the public name of its session. The URL may hold a password."""

    name: str
    url: str = field(repr=False)


def whole(low: int, high: int, note: str = "") -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f"is no whole number: pass {low} to {high}{note}")
        if not low <= int(text) <= high:
            raise ValueError(f"is out of range: pass {low} to {high}{note}")
        return int(text)

    return parse


def milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is no number: pass milliseconds, as in 8") from None
    if not (math.isfinite(value) and 0 <= value <= 1000):
        raise ValueError("is out of range: pass 0 (close at once) to 1000 ms")
    return value


def yes_or_no(text: str) -> bool:
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError("is neither true nor false: write one of the two")


def one_of(kind: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return kind(text)
        except ValueError:
            known = " or ".join(str(one.value) for one in kind)
            raise ValueError(f"is not known: pass {known}") from None

    return parse


def geometry(text: str) -> Geometry:
    """Raises SettingsError, which names the geometry itself."""
    return Geometry.parse(text)


def batch_sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError("is no list of batch sizes: write it as 16, or as 4,8,16") from None
    if min(sizes) < 1:
        raise ValueError("holds a size below 1: a batch has at least one frame")
    if list(sizes) != sorted(set(sizes)):
        raise ValueError("is not ascending: name each size once, the smallest first")
    return sizes


def host(text: str) -> str:
    if not is_host(text):
        raise ValueError("is neither a host name nor an address: pass one, without a port")
    return text


def allowed_host(text: str) -> str:
    bare = host(text).lower().removeprefix("[").removesuffix("]")
    return bare.removesuffix(".")


def advertised(text: str) -> str:
    """An http(s) URL without the last slash; a path may be in it, as behind a proxy."""
    parts = _url(text, ("http", "https"))
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("is more than a base URL: leave out user, query and fragment")
    return text.rstrip("/")


def origin(text: str) -> str:
    """`*`, or `scheme://host[:port]` as a browser writes it."""
    if text == "*":
        return text
    parts = _url(text, ("http", "https"))
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("is more than an origin: write it as https://example.org")
    usual = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}{port}"


def file(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError("names no file: pass its path")
    return Path(text)


def token(text: str) -> str:
    """What may stand after `Bearer` (RFC 6750, section 2.1)."""
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]*=*", text):
        raise ValueError("has a character that no bearer token may have: use letters and digits")
    if len(text) < 8:
        raise ValueError("is too short: a token has at least 8 characters")
    if len(text) > 512:
        raise ValueError("is too long: a token has at most 512 characters")
    return text


def model(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(
            "names no model: pass puppet, toon, mirror, package.module:factory or a .pt2 file"
        )
    return text


def device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise ValueError("is no device: pass auto, cpu, cuda or cuda:N")
    return text


def camera(text: str) -> Camera:
    name, equals, url = text.partition("=")
    if not equals or "://" in name:
        raise ValueError("is not of the form NAME=URL: write it as door=rtsp://camera/stream")
    if not is_name(name):
        raise ValueError(f"gives the camera a name that is not of the form {FORM}")
    try:
        _url(url, ("rtsp", "rtsps"))
    except ValueError as error:
        raise ValueError(f"gives camera {name} a URL that {error}") from None
    return Camera(name, url)


def ice_server(text: str) -> IceServer:
    """`URL` of a STUN server, `URL,USER,CREDENTIAL` of a TURN server (RFC 7064, RFC 7065)."""
    url, *login = text.split(",", 2)
    parts = re.fullmatch(r"(stun|turns?):([^\s?:@/]+)(?::(\d{1,5}))?(\?transport=(udp|tcp))?", url)
    if parts is None or not is_host(parts[2]) or not 0 < int(parts[3] or 1) <= 65535:
        raise ValueError("is no such server: write it as stun:host or turn:host,user,credential")
    if parts[1] == "stun" and (login or parts[4]):
        raise ValueError("says too much of a STUN server: write it as stun:host or stun:host:port")
    if parts[1] != "stun" and (len(login) < 2 or not all(login) or not text.isprintable()):
        raise ValueError("has no login: write a TURN server as turn:host,user,credential")
    if parts[1] == "turns" and parts[5] == "udp":
        raise ValueError("asks for TLS over UDP, which is not spoken here: use ?transport=tcp")
    return IceServer(url, *login)


def ports(text: str) -> Ports:
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if found is None:
        raise ValueError("is no range of ports: write it as 50000-50100")
    low, high = int(found[1]), int(found[2])
    if not 1024 <= low <= high <= 65535:
        raise ValueError("is out of range: pass the lower end first, 1024 to 65535")
    return Ports(low, high)


def reachable(text: str) -> str:
    """An address that leads to this machine, in its shortest form."""
    found = address(text)
    if found is None or found.is_multicast or found.is_unspecified or found.is_link_local:
        raise ValueError("is no address that others could reach: pass one, not a name")
    return str(found)


def broker_url(text: str) -> str:
    parts = _url(text, ("mqtt", "mqtts"))
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("is more than a broker: write it as mqtt://user:password@host:1883")
    return text


def topic_prefix(text: str) -> str:
    """Topic levels that others may stand below (MQTT 5.0, section 4.7)."""
    if not text or not text.isprintable() or re.search(r"[+#\s]|^\$|^/|/$|//", text):
        raise ValueError("is no topic prefix: pass levels without +, # or spaces, as in omokage")
    if len(text.encode()) > 128:
        raise ValueError("is too long: a prefix has at most 128 bytes")
    return text


def node(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"is no node name: use {FORM}")
    return text


def _url(text: str, schemes: tuple[str, ...]) -> SplitResult:
    like = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("cannot be read: look at its host and port") from None
    if parts.scheme not in schemes or not text.isprintable() or " " in text:
        raise ValueError(f"does not begin with {like}, or has a space in it: mend it")
    if not parts.hostname or not is_host(parts.hostname) or port == 0:
        raise ValueError(f"names no host, or no port that can be: write it as {like}host")
    return parts
