"""The address of the page, as others may open it."""

from __future__ import annotations

import secrets
from dataclasses import replace

from stream.hosts import is_loopback
from stream.lan import in_url, reached_by
from stream.settings import Settings

TOKEN_BYTES = 16


def with_token(settings: Settings) -> Settings:
    """HTTPS beyond loopback has a token: one of this start's own where none was given."""
    if settings.token or settings.insecure or is_loopback(settings.host):
        return settings
    return replace(settings, token=secrets.token_urlsafe(TOKEN_BYTES))


def links(settings: Settings, port: int) -> list[str]:
    """With the token, and by each address that others may take, the likeliest first."""
    fragment = f"#token={settings.token}" if settings.token else ""
    if settings.advertise is not None:
        return [f"{settings.advertise}/{fragment}"]
    own = "127.0.0.1" if is_loopback(settings.host) else settings.host
    hosts = [str(it) for it in reached_by(settings)] or [own]
    return [f"{settings.scheme}://{in_url(host)}:{port}/{fragment}" for host in hosts]


def is_for_phones(settings: Settings) -> bool:
    """Whether a phone that opens the first link gets the page, and the page its camera."""
    is_open = settings.advertise is not None or not is_loopback(settings.host)
    return is_open and links(settings, 0)[0].startswith("https://")
