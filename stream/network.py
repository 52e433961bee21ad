"""By which ways a peer reaches the media ports: servers, ports, addresses, as the user chose."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN server, or a TURN server with its login."""

    url: str  # RFC 7064, RFC 7065
    username: str | None = field(default=None, repr=False)
    credential: str | None = field(default=None, repr=False)

    @property
    def link(self) -> str:
        """As a `Link` header's value (RFC 9725, section 4.6): peers get the login, too."""
        said = f'<{self.url}>; rel="ice-server"'
        if self.username is not None and self.credential is not None:
            said += f"; username={_quoted(self.username)}; credential={_quoted(self.credential)}"
            said += '; credential-type="password"'
        return said


@dataclass(frozen=True, slots=True)
class Ports:
    """UDP ports, both ends among them."""

    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low + 1

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class Network:
    """What each connection is made with."""

    ice_servers: tuple[IceServer, ...] = ()  # asked: the first of STUN and the first of TURN
    udp_ports: Ports | None = None  # None: any
    announce: tuple[str, ...] = ()  # addresses that lead here, beside this machine's own


ANYWHERE = Network()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
