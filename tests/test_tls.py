"""What the doors speak TLS by, and what they say of a certificate that does not serve."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from stream.certificate import make_certificate
from stream.settings import Settings
from stream.tls import tls_context
from workers.errors import SettingsError


def pair(folder: Path, name: str, *, ago: timedelta = timedelta()) -> tuple[Path, Path]:
    """A certificate and its key, made so long ago."""
    pem = make_certificate(("localhost", "127.0.0.1"), datetime.now(UTC) - ago)
    private, begin, public = pem.partition(b"-----BEGIN CERTIFICATE")
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(begin + public)
    key.write_bytes(private)
    return certificate, key


def locked(key: Path) -> Path:
    path = key.with_suffix(".locked")
    opened = load_pem_private_key(key.read_bytes(), None)
    lock = BestAvailableEncryption(b"secret")
    path.write_bytes(opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    return path


def test_plain_http_needs_none() -> None:
    assert tls_context(Settings()) is None


def test_a_pair_of_ones_own_is_taken_and_no_other_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    certificate, key = pair(tmp_path, "own")
    assert tls_context(Settings(tls_cert=certificate, tls_key=key)) is not None
    assert not (tmp_path / "state").exists()


def test_ours_is_kept_with_the_users_state_and_its_fingerprint_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    caplog.set_level(logging.INFO)
    for _ in range(2):
        assert tls_context(Settings(https=True)) is not None
    made, first, second = caplog.messages
    assert str(tmp_path / "omokage" / "certificate.pem") in made and "localhost" in made
    assert first == second and "sha256=" in first
    assert "PRIVATE" not in caplog.text


def test_what_does_not_serve_is_told_with_the_mend(tmp_path: Path) -> None:
    certificate, key = pair(tmp_path, "own")
    other, _ = pair(tmp_path, "other")
    ended, its_key = pair(tmp_path, "ended", ago=timedelta(days=800))
    (tmp_path / "empty").touch()
    says = {
        (certificate, tmp_path / "no"): "--tls-key .*/no cannot be read .no such file.*: mend",
        (tmp_path, key): "--tls-cert .* cannot be read .is a directory.: mend",
        (key, key): f"--tls-cert {key} holds no certificate: pass a PEM file",
        (tmp_path / "empty", key): "--tls-cert .*/empty holds no certificate",
        (certificate, certificate): "do not serve .*: pass two PEM files",
        (certificate, tmp_path / "empty"): "do not serve .*: pass two PEM files",
        (other, key): f"--tls-key {key} is not the key of --tls-cert {other}: pass the pair",
        (ended, its_key): rf"--tls-cert {ended} ended on \d{{4}}-\d\d-\d\d: renew it",
        (certificate, locked(key)): "--tls-key .*.locked is locked by a password: pass a key",
    }
    for (cert_given, key_given), said in says.items():
        with pytest.raises(SettingsError, match=said):
            tls_context(Settings(tls_cert=cert_given, tls_key=key_given))
