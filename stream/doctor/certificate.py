"""What HTTPS would be served by: a certificate's time, its names, and who may read its key."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from stream.certificate import FILE, RENEWED_BEFORE, serves, state_folder
from stream.doctor.finding import Finding, error, ok, warning
from stream.hosts import address, bare, is_loopback
from stream.lan import names_of, reached_by
from stream.settings import Settings
from stream.tls import load_given
from workers.errors import SettingsError

SOON = timedelta(days=14)
PLAIN = "plain HTTP, where others' browsers give no camera"


@dataclass(frozen=True, slots=True)
class Certificate:
    """`names` as it writes them, a wildcard among them; addresses in their shortest form."""

    ends: datetime
    names: frozenset[str]
    key_mode: int  # the file mode of its key


def look(settings: Settings) -> list[Finding]:
    now = datetime.now(UTC)
    if settings.scheme == "http":
        return [judge_plain(settings)]
    if settings.tls_cert is not None and settings.tls_key is not None:
        return _given(settings, settings.tls_cert, settings.tls_key, now)
    return [_own(names_of(settings), state_folder(os.environ), now)]


def judge_plain(settings: Settings) -> Finding:
    is_behind_tls = settings.advertise is not None and settings.advertise.startswith("https:")
    if is_loopback(settings.host) or is_behind_tls:
        return ok("certificate", "none is needed: this machine's own browsers, or a proxy's TLS")
    return warning("certificate", PLAIN, "pass --https, or --advertise where a proxy speaks TLS")


def _given(settings: Settings, path: Path, key: Path, now: datetime) -> list[Finding]:
    try:
        load_given(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), path, key)
    except SettingsError as refused:
        says, _, mend = str(refused).rpartition(": ")
        return [error("certificate", says, mend)]
    found = x509.load_pem_x509_certificate(path.read_bytes())
    facts = Certificate(found.not_valid_after_utc, _names(found), stat.S_IMODE(key.stat().st_mode))
    return judge_given(facts, opened_by(settings), path, key, now)


def opened_by(settings: Settings) -> list[str]:
    """The hosts in the links that are given out."""
    if settings.advertise is not None:
        return [bare(settings.advertise.partition("://")[2].partition("/")[0]) or ""]
    if settings.allowed_hosts:
        return list(settings.allowed_hosts)
    return [str(it) for it in reached_by(settings)] or [settings.host]


def judge_given(
    it: Certificate, hosts: Collection[str], path: Path, key: Path, now: datetime
) -> list[Finding]:
    days = (it.ends - now).days
    said = f"{path} is good for {days} days"
    found = [warning("certificate", said, "renew it")] if it.ends - now < SOON else []
    missing = [host for host in hosts if not is_named(host, it.names)]
    if missing:
        found.append(
            warning(
                "certificate",
                f"{path} does not name {', '.join(missing)}, only {', '.join(sorted(it.names))}",
                "let links have a name that it holds, by --advertise",
            )
        )
    if it.key_mode & 0o077:
        open_to = f"{key} may be read by others (mode {it.key_mode:o})"
        found.append(warning("certificate", open_to, f"chmod 600 {key}"))
    return found or [ok("certificate", said)]


def is_named(host: str, names: Collection[str]) -> bool:
    """Whether a certificate of these names is good for this host (RFC 9525, section 6.3)."""
    at = address(host)
    if at is not None:
        return str(at) in names
    plain = host.lower()
    return plain in names or f"*.{plain.partition('.')[2]}" in names


def _names(found: x509.Certificate) -> frozenset[str]:
    try:
        held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    hosts = {name.lower() for name in held.get_values_for_type(x509.DNSName)}
    return frozenset(hosts | {str(it) for it in held.get_values_for_type(x509.IPAddress)})


def _own(names: Collection[str], folder: Path, now: datetime) -> Finding:
    path = folder / FILE
    if (refused := first_obstacle(folder)) is not None:
        mend = "set XDG_STATE_HOME to a folder of yours, or pass --tls-cert and --tls-key"
        return error("certificate", f"our own cannot be kept: {refused} is not writable", mend)
    if not path.exists():
        return ok("certificate", f"our own, to be made at first start in {folder}")
    if not serves(path, names, now):
        ends = RENEWED_BEFORE.days
        said = (
            f"{path} will be made anew: it ends within {ends} days, others may read it, or this "
            "machine's names have changed; browsers ask again"
        )
        return ok("certificate", said)
    ends_at = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return ok("certificate", f"our own, {path}, good for {(ends_at - now).days} days")


def first_obstacle(folder: Path) -> Path | None:
    """What of the folder's way cannot be written to; None: it is there, or can be made."""
    for place in (folder, *folder.parents):
        if place.exists():
            is_open = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
            return None if is_open else place
    return folder
