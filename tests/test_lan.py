"""The names and addresses by which others reach this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from stream import lan
from stream.lan import Address, ip_address, names_of, reached_by
from stream.settings import Settings

INTERFACES = ("127.0.0.1", "::1", "172.17.0.1", "192.168.1.5", "8.8.4.4", "fd00::2", "fe80::1")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a bridge, a network, a public address; its default route leads to the network."""
    routes = {4: "192.168.1.5", 6: "fd00::2"}
    monkeypatch.setattr(lan, "_of_interfaces", lambda: map(ip_address, INTERFACES))
    monkeypatch.setattr(lan, "_towards", lambda to: ip_address(routes[ip_address(to).version]))
    monkeypatch.setattr(socket, "gethostname", lambda: "Box")


def texts(addresses: Sequence[Address]) -> list[str]:
    return [str(it) for it in addresses]


def test_everywhere_is_each_address_that_others_can_name_the_default_routes_first() -> None:
    at = texts(reached_by(Settings(host="0.0.0.0")))
    assert at == ["192.168.1.5", "172.17.0.1", "8.8.4.4"]
    assert texts(reached_by(Settings(host="::"))) == ["fd00::2"]


def test_one_address_is_that_one_and_loopback_is_none() -> None:
    assert texts(reached_by(Settings(host="172.17.0.1"))) == ["172.17.0.1"]
    for host in ("127.0.0.1", "localhost", "::1"):
        assert reached_by(Settings(host=host)) == []


def test_the_names_are_this_machines_and_those_of_the_settings() -> None:
    own = {"localhost", "127.0.0.1", "::1", "box", "box.local"}
    own |= {"192.168.1.5", "172.17.0.1", "8.8.4.4"}
    assert names_of(Settings(host="0.0.0.0")) == own
    assert names_of(Settings(host="::")) == {*own, "fd00::2"}
    given = Settings(
        host="Stage.example.",
        advertise="https://Avatar.example:8443/live",
        allowed_hosts=("a.example", "[2001:db8::1]"),
    )
    said = {"stage.example", "avatar.example", "a.example", "2001:db8::1"}
    assert names_of(given) == own | said


def test_a_host_name_that_is_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "the box!")
    assert not any("box" in it for it in names_of(Settings()))
    monkeypatch.setattr(socket, "gethostname", lambda: "box.example")
    assert "box.example" in names_of(Settings()) and "box.example.local" not in names_of(Settings())
