"""The TLS that the doors speak: by a certificate of the user's, or by one of our own."""

from __future__ import annotations

import logging
import os
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from stream.certificate import kept_certificate, state_folder
from stream.lan import names_of
from stream.settings import Settings
from workers.errors import SettingsError

log = logging.getLogger(__name__)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """None: plain HTTP. Raises SettingsError for a certificate or key that does not serve."""
    if settings.scheme == "http":
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    if settings.tls_cert is not None and settings.tls_key is not None:
        load_given(context, settings.tls_cert, settings.tls_key)
        return context
    names = names_of(settings)
    path, is_new = kept_certificate(state_folder(os.environ), names, datetime.now(UTC))
    if is_new:
        log.info("made a certificate: file=%s names=%s", path, ",".join(sorted(names)))
    context.load_cert_chain(path)
    mark = x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(SHA256()).hex(":").upper()
    log.info("browsers warn once of this machine's own certificate: sha256=%s", mark)
    return context


def load_given(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Raises SettingsError for a pair that does not serve."""
    _read("--tls-key", key)
    _check_certificate(certificate, _read("--tls-cert", certificate))
    is_locked = False

    def no_password() -> str:
        nonlocal is_locked
        is_locked = True
        return ""

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if is_locked:
            raise SettingsError(
                f"--tls-key {key} is locked by a password: pass a key without one"
            ) from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(
                f"--tls-key {key} is not the key of --tls-cert {certificate}: pass the pair"
            ) from None
        raise SettingsError(
            f"--tls-cert {certificate} and --tls-key {key} do not serve "
            f"({(error.reason or 'no PEM').lower().replace('_', ' ')}): pass two PEM files"
        ) from None


def _check_certificate(path: Path, pem: bytes) -> None:
    try:
        end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except ValueError:
        raise SettingsError(f"--tls-cert {path} holds no certificate: pass a PEM file") from None
    if end <= datetime.now(UTC):
        raise SettingsError(f"--tls-cert {path} ended on {end:%Y-%m-%d}: renew it")


def _read(flag: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise SettingsError(f"{flag} {path} cannot be read ({reason}): mend the path") from None
