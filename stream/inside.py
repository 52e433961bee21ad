"""How we reach into aiortc: each private name is looked for, so that its change is an error."""

from __future__ import annotations

from typing import Any

from aiortc import RTCPeerConnection


def transports(connection: RTCPeerConnection, kind: str) -> set[Any]:
    """Its transports of this kind, "ice" or "dtls"; of bundled sections, one."""
    found: set[Any] = getattr(connection, f"_RTCPeerConnection__{kind}Transports")  # Any: aiortc's
    return found


def replace(of: object, name: str, by: object) -> None:
    """Raises AttributeError when there is nothing of this name: aiortc has changed."""
    getattr(of, name)
    setattr(of, name, by)
