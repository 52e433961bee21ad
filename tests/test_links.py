"""The links that are printed, and the token in them."""

from __future__ import annotations

import pytest

from stream import lan
from stream.lan import ip_address
from stream.links import is_for_phones, links, with_token
from stream.settings import Settings
from stream.values import token


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = ("127.0.0.1", "10.0.0.2", "192.168.1.5", "fd00::2")
    monkeypatch.setattr(lan, "_of_interfaces", lambda: map(ip_address, interfaces))
    monkeypatch.setattr(lan, "_towards", lambda to: ip_address("192.168.1.5"))


def test_beyond_loopback_https_gets_a_token_of_this_start() -> None:
    bare = Settings(https=True, host="0.0.0.0")
    made = {with_token(bare).token for _ in range(3)}
    assert len(made) == 3
    for it in made:
        assert it is not None and token(it) == it and len(it) == 22


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(https=True),
        Settings(https=True, host="0.0.0.0", insecure=True),
        Settings(https=True, host="0.0.0.0", token="0123456789"),
    ],
)
def test_elsewhere_the_users_choice_stands(settings: Settings) -> None:
    assert with_token(settings) == settings


LINKS = {
    "on loopback": (Settings(), ["http://127.0.0.1:80/"]),
    "localhost": (Settings(host="localhost"), ["http://127.0.0.1:80/"]),
    "everywhere": (
        Settings(host="0.0.0.0", https=True, token="0123456789"),
        ["https://192.168.1.5:80/#token=0123456789", "https://10.0.0.2:80/#token=0123456789"],
    ),
    "everywhere in IPv6": (Settings(host="::", insecure=True), ["http://[fd00::2]:80/"]),
    "one address": (Settings(host="[fd00::2]", insecure=True), ["http://[fd00::2]:80/"]),
    "a name": (Settings(host="box.example", insecure=True), ["http://box.example:80/"]),
    "advertised": (
        Settings(host="0.0.0.0", advertise="https://a.example/live", token="0123456789"),
        ["https://a.example/live/#token=0123456789"],
    ),
}


@pytest.mark.parametrize("settings, said", LINKS.values(), ids=LINKS)
def test_the_links_are_those_that_others_can_open(settings: Settings, said: list[str]) -> None:
    assert links(settings, 80) == said


def test_where_there_is_no_network_it_says_where_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lan, "_of_interfaces", lambda: iter([ip_address("127.0.0.1")]))
    assert links(Settings(host="0.0.0.0", insecure=True), 80) == ["http://0.0.0.0:80/"]


def test_a_code_is_for_what_a_phone_can_open_with_its_camera() -> None:
    behind_a_proxy = Settings(advertise="https://a.example")
    for good in (Settings(https=True, host="0.0.0.0"), behind_a_proxy):
        assert is_for_phones(good)
    plain = Settings(host="0.0.0.0", insecure=True)
    for bad in (Settings(), Settings(https=True), plain, Settings(advertise="http://a.example")):
        assert not is_for_phones(bad)
