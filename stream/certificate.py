"""A certificate of our own, for the names it is asked for, kept until they or its time change."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stream.hosts import address
from workers.errors import SettingsError

FILE = "certificate.pem"
LASTS = timedelta(days=365)
EARLIER = timedelta(days=1)  # for a phone whose clock is behind
RENEWED_BEFORE = timedelta(days=30)  # a server that starts now may run for weeks


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where this user's programs keep what should outlive them (XDG base directories)."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # a relative one is to be ignored, the specification says
        base = Path(environ.get("HOME") or "/") / ".local" / "state"
    return base / "omokage"


def kept_certificate(folder: Path, names: Collection[str], now: datetime) -> tuple[Path, bool]:
    """The PEM file with key and certificate for all these names, and whether it was just made.

    One that serves is kept, since a browser asks again about every new one. The folder is for
    its owner alone. Raises SettingsError where nothing can be kept there.
    """
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        if serves(path, names, now):
            return path, False
        _write_private(path, make_certificate(names, now))
    except OSError as error:
        reason = (error.strerror or "unusable").lower()
        raise SettingsError(
            f"--https cannot keep its certificate in {folder} ({reason}): "
            "set XDG_STATE_HOME to a folder of yours, or pass --tls-cert and --tls-key"
        ) from None
    return path, True


def make_certificate(names: Collection[str], now: datetime) -> bytes:
    """PEM: a new P-256 key and its self-signed certificate, good for a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    # With the time, since browsers mix up certificates of one issuer with several keys.
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Omokage, made {now:%Y-%m-%d %H:%M:%S}")]
    )
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now - EARLIER + LASTS)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(public, critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _alternatives(names: Collection[str]) -> list[x509.GeneralName]:
    return [
        x509.DNSName(name) if address(name) is None else x509.IPAddress(ip_address(name))
        for name in sorted(names)
    ]


def serves(path: Path, names: Collection[str], now: datetime) -> bool:
    """Whether it is private, whole, good for some time yet, and for all the names."""
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077 or path.is_symlink():
            return False
        pem = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, password=None)
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (FileNotFoundError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        key.public_key() == certificate.public_key()
        and certificate.not_valid_before_utc <= now
        and now + RENEWED_BEFORE < certificate.not_valid_after_utc
        and set(_alternatives(names)) <= set(alternatives.value)
    )


def _write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, and at no instant for other eyes."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    made = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        made.replace(path)
    except BaseException:
        made.unlink()
        raise
