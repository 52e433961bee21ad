"""Our own certificate: what is in it, who may read it, when it is made anew."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from stream.certificate import kept_certificate, make_certificate, state_folder
from workers.errors import SettingsError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NAMES = ("localhost", "127.0.0.1", "::1", "box", "192.0.2.7")


def test_it_holds_every_name_and_is_what_browsers_take() -> None:
    made = x509.load_pem_x509_certificate(make_certificate(NAMES, NOW))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "box"}
    addresses = {ip_address(it) for it in ("127.0.0.1", "::1", "192.0.2.7")}
    assert set(names.get_values_for_type(x509.IPAddress)) == addresses
    public = made.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1"
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca  # a phone that is made to trust it trusts it for these names alone
    made.verify_directly_issued_by(made)


def test_it_is_good_from_before_now_for_no_more_than_397_days() -> None:
    made = x509.load_pem_x509_certificate(make_certificate(NAMES, NOW))
    assert made.not_valid_before_utc < NOW < made.not_valid_after_utc
    assert made.not_valid_after_utc - made.not_valid_before_utc <= timedelta(days=397)


def test_it_and_its_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "omokage"
    before = os.umask(0)
    try:
        path, is_new = kept_certificate(folder, NAMES, NOW)
    finally:
        os.umask(before)
    assert is_new and [it.name for it in folder.iterdir()] == [path.name]
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path)


def test_a_folder_that_was_opened_is_closed_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    kept_certificate(tmp_path, NAMES, NOW)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_one_that_serves_is_kept_to_the_byte(tmp_path: Path) -> None:
    path, _ = kept_certificate(tmp_path, NAMES, NOW)
    pem = path.read_bytes()
    again = kept_certificate(tmp_path, NAMES[:3], NOW + timedelta(days=300))
    assert again == (path, False) and path.read_bytes() == pem


RENEWED = {
    "its end is near": (NAMES, timedelta(days=340)),
    "it has ended": (NAMES, timedelta(days=4000)),
    "the clock was wrong when it was made": (NAMES, timedelta(days=-4000)),
    "a name is missing from it": ((*NAMES, "box.example"), timedelta()),
    "an address is missing from it": ((*NAMES, "192.0.2.8"), timedelta()),
}


@pytest.mark.parametrize("names, later", RENEWED.values(), ids=RENEWED)
def test_it_is_made_anew_when(tmp_path: Path, names: tuple[str, ...], later: timedelta) -> None:
    path, _ = kept_certificate(tmp_path, NAMES, NOW)
    pem = path.read_bytes()
    assert kept_certificate(tmp_path, names, NOW + later) == (path, True)
    assert path.read_bytes() != pem
    assert kept_certificate(tmp_path, names, NOW + later) == (path, False)


SPOILT = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "empty": lambda path: path.write_bytes(b""),
    "no text": lambda path: path.write_bytes(b"\x00\xff" * 50),
    "of two halves": lambda path: path.write_bytes(
        make_certificate(NAMES, NOW).partition(b"-----BEGIN CERT")[0]
        + b"-----BEGIN CERT"
        + path.read_bytes().partition(b"-----BEGIN CERT")[2]
    ),
    "open to others": lambda path: path.chmod(0o640),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_one_that_is_spoilt_is_replaced(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]  # of several kinds
    path, _ = kept_certificate(tmp_path, NAMES, NOW)
    spoil(path)
    assert kept_certificate(tmp_path, NAMES, NOW) == (path, True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept_certificate(tmp_path, NAMES, NOW) == (path, False)


def test_a_folder_that_cannot_be_is_told_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"--https cannot keep.*XDG_STATE_HOME.*--tls-cert"):
        kept_certificate(tmp_path / "file" / "omokage", NAMES, NOW)


def test_the_folder_is_where_the_user_keeps_state() -> None:
    assert state_folder({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/omokage")
    for odd in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}):
        assert state_folder({**odd, "HOME": "/h"}) == Path("/h/.local/state/omokage")
