"""What HTTP says about a session's portrait and controls, in front of a small stage."""

from __future__ import annotations

import json

import pytest
from offers import PUBLISHER
from stages import House, house, raw

from stream.settings import Settings
from workers.errors import ModelError, PortraitOvertaken, PortraitRefused, ServerFull

SDP = {"Content-Type": "application/sdp"}


async def a_session(here: House, query: str = "") -> str:
    async with here.client.post(f"/whip{query}", data=PUBLISHER, headers=SDP) as answer:
        assert answer.status == 201
        return f"/sessions/{answer.headers['Location'].rpartition('/')[2]}"


async def test_shipped_portraits_are_listed_and_shown() -> None:
    async with house(Settings(advertise="https://here.example")) as here:
        async with here.client.get("/portraits") as answer:
            assert await answer.json() == {
                "portraits": [
                    {
                        "name": "rose",
                        "default": True,
                        "url": "https://here.example/portraits/rose",
                    },
                    {"name": "sky", "default": False, "url": "https://here.example/portraits/sky"},
                ],
                "uploads": True,
            }
        async with here.client.get("/portraits/sky") as answer:
            assert answer.content_type == "image/webp"
            assert answer.headers["Cache-Control"] == "private, max-age=300"
            tag = answer.headers["ETag"]
        async with here.client.get("/portraits/sky", headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304 and answer.headers["ETag"] == tag
        async with here.client.get("/portraits/nobody") as answer:
            assert answer.status == 404 and "no portrait" in (await answer.json())["error"]


async def test_a_session_may_begin_with_a_portrait() -> None:
    async with house() as here:
        await a_session(here, "?portrait=sky")
        await a_session(here)
        assert list(here.stage.worn.values()) == ["sky", None]


@pytest.mark.parametrize("kind", ["image/png", "Image/JPEG", "image/webp; charset=x"])
async def test_a_picture_s_file_reaches_the_stage_as_it_is(kind: str) -> None:
    async with house() as here:
        at = await a_session(here)
        data = bytes(range(256)) * 4096  # 1 MB, more than an offer may have
        headers = {"Content-Type": kind}
        async with here.client.put(f"{at}/portrait", data=data, headers=headers) as answer:
            assert answer.status == 204
        assert here.stage.worn["secret-1"] == data
        async with here.client.put(f"{at}/portrait", json={"name": "sky"}) as answer:
            assert answer.status == 204
        assert here.stage.worn["secret-1"] == "sky"


@pytest.mark.parametrize(
    ("kind", "data", "status", "says"),
    [
        ("image/gif", b"GIF89a", 415, "image/webp"),
        ("text/html", b"<svg>", 415, "application/json"),
        ("image/png", bytes((8 << 20) + 1), 413, "over 8 MB"),
        ("application/json", b"[]", 422, "the name of a shipped portrait"),
        ("application/json", b'{"name": "../x"}', 422, "the name of a shipped portrait"),
        ("application/json", b'{"name": 3}', 422, "the name of a shipped portrait"),
        ("application/json", b"{", 422, "no JSON"),
        ("application/json", b'"' + bytes(5000), 413, "over 4096 bytes"),
    ],
)
async def test_what_is_no_portrait_is_refused_in_words(
    kind: str, data: bytes, status: int, says: str
) -> None:
    async with house() as here:
        at = await a_session(here)
        headers = {"Content-Type": kind}
        async with here.client.put(f"{at}/portrait", data=data, headers=headers) as answer:
            assert answer.status == status
            assert says in (await answer.json())["error"]
        assert here.stage.worn["secret-1"] is None


async def test_a_body_that_does_not_say_how_long_it_is_is_bounded_too() -> None:
    async with house() as here:
        at = await a_session(here)
        chunk = f"{1 << 20:x}\n".encode() + bytes(1 << 20) + b"\n"
        request = (
            f"PUT {at}/portrait HTTP/1.1\nHost: localhost\nContent-Type: image/png\n"
            "Connection: close\nTransfer-Encoding: chunked\n\n"
        )
        said = await raw(here.port, request + (chunk * 9).decode() + "0\n\n")
        assert " 413 " in said.splitlines()[0]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PortraitRefused("no face was found"), 422),
        (PortraitOvertaken("a newer one"), 409),
        (ServerFull("8 portraits are on their way"), 503),
        (ModelError("the preparer was lost: try again"), 503),
    ],
)
async def test_each_refusal_has_its_status(error: Exception, status: int) -> None:
    async with house() as here:
        at = await a_session(here)
        here.stage.raises = error
        async with here.client.put(f"{at}/portrait", json={"name": "sky"}) as answer:
            assert answer.status == status and str(error) == (await answer.json())["error"]
            assert ("Retry-After" in answer.headers) == (status == 503)


async def test_controls_are_read_changed_and_replaced() -> None:
    async with house() as here:
        url = f"{await a_session(here)}/controls"
        async with here.client.get(url) as answer:
            told = (await answer.json())["controls"]
            assert told["strength"] == {"value": 1.0, "low": 0.0, "high": 2.0, "default": 1.0}
        await here.client.patch(url, json={"strength": 2})
        async with here.client.patch(url, json={"neutral": 1}) as answer:
            told = (await answer.json())["controls"]
        assert (told["strength"]["value"], told["neutral"]["value"]) == (2.0, 1.0)
        async with here.client.put(url, json={"neutral": 2}) as answer:
            told = (await answer.json())["controls"]
        assert (told["strength"]["value"], told["neutral"]["value"]) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        ('{"strength": 3}', "application/json", 422, "from 0 to 2"),
        ('{"smile": 1}', "application/json", 422, "it has strength, neutral"),
        ("nonsense", "application/json", 422, "no JSON"),
        ("strength=1", "application/x-www-form-urlencoded", 415, "application/json"),
        (json.dumps({"strength": 1, "x": "y" * 5000}), "application/json", 413, "over 4096"),
    ],
)
async def test_controls_that_cannot_be_are_refused_in_words(
    body: str, kind: str, status: int, says: str
) -> None:
    async with house() as here:
        url = f"{await a_session(here)}/controls"
        headers = {"Content-Type": kind}
        async with here.client.patch(url, data=body, headers=headers) as answer:
            assert answer.status == status and says in (await answer.json())["error"]


async def test_nothing_is_changed_without_the_secret_or_the_token() -> None:
    async with house(Settings(token="open-sesame")) as here:
        for path in ("/portraits", "/portraits/rose", "/sessions/secret-1/controls"):
            async with here.client.get(path) as answer:
                assert answer.status == 401
    async with house() as here:
        await a_session(here, "/aya")
        for name in ("aya", "viewer-1", "secret-9"):
            async with here.client.put(f"/sessions/{name}/portrait", json={"name": "sky"}) as it:
                assert it.status == 404
            async with here.client.patch(f"/sessions/{name}/controls", json={}) as it:
                assert it.status == 404
