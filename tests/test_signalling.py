"""WHIP and WHEP over a real server."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest
from blockbuster import blockbuster_ctx
from multidict import CIMultiDictProxy
from offers import PUBLISHER, VIEWER
from stages import ANSWER, House, MemoryStage, house

from stream import signalling
from stream.settings import Settings
from workers.errors import NameRefused, OfferError, OfferUnsupported

SDP = {"Content-Type": "application/sdp"}


async def post(
    here: House,
    path: str,
    offer: str | bytes = PUBLISHER,
    headers: dict[str, str] | None = None,
) -> tuple[int, str, CIMultiDictProxy[str]]:
    async with here.client.post(path, data=offer, headers=headers or SDP) as answer:
        return answer.status, await answer.text(), answer.headers


async def test_whip_answers_201_with_the_answer_and_where_it_lives() -> None:
    async with house() as here:
        status, text, headers = await post(here, "/whip")
        assert (status, text) == (201, ANSWER)
        assert headers["Content-Type"].startswith("application/sdp")
        assert headers["Location"] == f"http://127.0.0.1:{here.port}/whip/sessions/secret-1"
        assert headers["Omokage-Session"] == "made-up-0"


async def test_the_location_is_under_the_advertised_base() -> None:
    async with house(Settings(advertise="https://box.example/omokage")) as here:
        _, _, headers = await post(here, "/whip")
        assert headers["Location"] == "https://box.example/omokage/whip/sessions/secret-1"


async def test_a_chosen_name_is_taken_once() -> None:
    async with house() as here:
        status, _, headers = await post(here, "/whip/aya")
        assert (status, headers["Omokage-Session"]) == (201, "aya")
        status, text, _ = await post(here, "/whip/aya")
        assert (status, text) == (409, "aya is live: choose another name")


@pytest.mark.parametrize("name", ["Aya", "a_b", "a%20b", "x" * 65, "面影", "a%2Fb"])
async def test_a_name_of_another_form_is_refused(name: str) -> None:
    async with house() as here:
        status, text, _ = await post(here, f"/whip/{name}")
        assert status == 400 and "[a-z0-9-]{1,64}" in text
        assert here.stage.made == 0


async def test_whep_gives_a_viewer_a_secret_of_its_own() -> None:
    async with house() as here:
        await post(here, "/whip/aya")
        status, text, headers = await post(here, "/whep/aya", VIEWER)
        assert (status, text) == (201, ANSWER)
        assert headers["Location"] == f"http://127.0.0.1:{here.port}/whep/sessions/viewer-2"
        assert headers["Omokage-Session"] == "aya"


async def test_whep_of_an_unknown_name_is_404_whatever_the_offer() -> None:
    async with house() as here:
        for offer in (VIEWER, "", "nonsense"):
            status, text, _ = await post(here, "/whep/nobody", offer)
            assert status == 404 and "GET /sessions" in text


async def test_delete_ends_a_session_or_a_viewer_once() -> None:
    async with house() as here:
        _, _, session = await post(here, "/whip/aya")
        _, _, viewer = await post(here, "/whep/aya", VIEWER)
        for location in (viewer["Location"], session["Location"]):
            path = location.removeprefix(f"http://127.0.0.1:{here.port}")
            for status in (200, 404):
                async with here.client.delete(path) as answer:
                    assert answer.status == status
        assert not here.stage.by_secret and not here.stage.viewers


async def test_the_public_name_ends_nothing() -> None:
    async with house() as here:
        await post(here, "/whip/aya")
        async with here.client.delete("/whip/sessions/aya") as answer:
            assert answer.status == 404
        async with here.client.delete("/whip/aya") as answer:
            assert answer.status == 405
        assert here.stage.by_secret


PATCH = {"Content-Type": "application/trickle-ice-sdpfrag"}
FRAGMENT = """\
a=ice-ufrag:Ab1/
a=ice-pwd:0123456789abcdefghijklmn
m=video 9 UDP/TLS/RTP/SAVPF 0
a=mid:1
a=candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host
a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active
a=end-of-candidates
"""


async def patch(
    here: House, path: str, headers: dict[str, str], fragment: str = FRAGMENT
) -> tuple[int, str]:
    async with here.client.patch(path, data=fragment, headers=PATCH | headers) as answer:
        return answer.status, await answer.text()


async def test_candidates_come_by_patch_under_the_strong_etag_of_the_201() -> None:
    async with house() as here:
        _, _, session = await post(here, "/whip/aya")
        _, _, viewer = await post(here, "/whep/aya", VIEWER)
        assert re.fullmatch(r'"[0-9a-f]{16}"', session["ETag"])
        assert session["ETag"] != viewer["ETag"]
        for path, tag in (
            ("/whip/sessions/secret-1", session["ETag"]),
            ("/whep/sessions/viewer-2", viewer["ETag"]),
            ("/whip/sessions/secret-1", f'"other", {session["ETag"]}'),
            ("/whip/sessions/secret-1", "*"),
        ):
            here.stage.trickled.clear()
            assert await patch(here, path, {"If-Match": tag}) == (204, "")
            assert here.stage.trickled == ["192.0.2.7:50000"]


async def test_a_patch_of_another_ice_session_changes_nothing() -> None:
    async with house() as here:
        _, _, session = await post(here, "/whip")
        path, tag = "/whip/sessions/secret-1", session["ETag"]
        assert (await patch(here, path, {}))[0] == 428
        for wrong in ('"other"', f"W/{tag}", tag.strip('"'), ""):
            assert (await patch(here, path, {"If-Match": wrong}))[0] == 412
        assert (await patch(here, "/whip/sessions/nobody", {"If-Match": tag}))[0] == 404
        assert not here.stage.trickled


async def test_npm_clients_that_send_no_if_match_are_understood() -> None:
    async with house() as here:
        _, _, session = await post(here, "/whip/aya")
        await post(here, "/whep/aya", VIEWER)
        assert (await patch(here, "/whep/sessions/viewer-2", {}))[0] == 204
        assert (await patch(here, "/whip/sessions/secret-1", {"ETag": session["ETag"]}))[0] == 204


async def test_an_ice_restart_is_refused_in_words_and_the_session_lives_on() -> None:
    async with house() as here:
        await post(here, "/whip")
        restart = FRAGMENT.replace("Ab1/", "Zz9/")
        status, text = await patch(here, "/whip/sessions/secret-1", {"If-Match": "*"}, restart)
        assert status == 422 and "the session goes on" in text
        assert "secret-1" in here.stage.by_secret and not here.stage.trickled


@pytest.mark.parametrize(
    ("fragment", "says"),
    [
        ("hello", "no line of SDP"),
        (FRAGMENT.replace("50000", "99999"), "port 99999"),
        (FRAGMENT + "a=candidate:1 1 udp 1 192.0.2.7 5 typ host\n" * 64, "more than 64"),
        (FRAGMENT + "a=candidate:1 1 udp\n", "cannot be read"),
        (FRAGMENT + "a=x\n" * 2000, "over 2000 lines"),
    ],
)
async def test_a_hostile_fragment_is_refused(fragment: str, says: str) -> None:
    async with house() as here:
        await post(here, "/whip")
        status, text = await patch(here, "/whip/sessions/secret-1", {"If-Match": "*"}, fragment)
        assert status == 400 and says in text
        assert not here.stage.trickled


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Application/Trickle-ICE-SDPfrag; charset=utf-8", 204),
        ("application/sdp", 415),
        ("", 415),
    ],
)
async def test_a_fragment_has_its_own_media_type(kind: str, status: int) -> None:
    async with house() as here:
        await post(here, "/whip")
        headers = {"If-Match": "*", "Content-Type": kind}
        path = "/whip/sessions/secret-1"
        async with here.client.patch(path, data=FRAGMENT, headers=headers) as answer:
            assert answer.status == status
            taken = answer.headers.get("Accept-Patch")
            assert taken == (PATCH["Content-Type"] if status == 415 else None)


async def test_options_says_what_each_address_takes() -> None:
    async with house() as here:
        for path, allow, takes in (
            ("/whip", "OPTIONS, POST", "application/sdp"),
            ("/whip/aya", "OPTIONS, POST", "application/sdp"),
            ("/whep/aya", "OPTIONS, POST", "application/sdp"),
            ("/whip/sessions/x", "DELETE, OPTIONS, PATCH", None),
            ("/sessions", "GET, HEAD, OPTIONS", None),
        ):
            async with here.client.options(path) as answer:
                assert answer.status == 200
                assert answer.headers["Allow"] == allow
                assert answer.headers.get("Accept-Post") == takes


async def test_a_get_of_an_endpoint_is_405() -> None:
    async with house() as here, here.client.get("/whip") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize(
    "kind", ["application/sdp; charset=utf-8", "Application/SDP", 'application/sdp;version="1"']
)
async def test_the_content_type_may_have_parameters_and_any_case(kind: str) -> None:
    async with house() as here:
        assert (await post(here, "/whip", headers={"Content-Type": kind}))[0] == 201


@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
async def test_another_content_type_is_415(kind: str) -> None:
    async with house() as here:
        status, text, headers = await post(here, "/whip", headers={"Content-Type": kind})
        assert status == 415 and headers["Accept-Post"] == "application/sdp"
        assert "application/sdp" in text


async def test_a_body_without_a_content_type_is_415_as_no_page_may_send_it_unasked() -> None:
    async with house() as here:
        skip = ["Content-Type"]
        async with here.client.post(
            "/whip", data=PUBLISHER.encode(), skip_auto_headers=skip
        ) as answer:
            assert answer.status == 415


@pytest.mark.parametrize(
    ("offer", "status", "says"),
    [
        ("", 400, "the offer is empty"),
        ("hello", 400, "does not begin with v=0"),
        (b"v=0\r\n\xff", 400, "not UTF-8"),
        (PUBLISHER.replace("a=setup:actpass\r\n", ""), 400, "no a=setup"),
        (VIEWER, 422, "a publisher sends"),
        (PUBLISHER.replace("VP8", "AV1").replace("H264", "H265"), 422, "offer H264"),
    ],
)
async def test_an_offer_that_cannot_be_answered_is_told_why(
    offer: str | bytes, status: int, says: str
) -> None:
    async with house() as here:
        found, text, headers = await post(here, "/whip", offer)
        assert found == status and says in text
        assert headers["Content-Type"].startswith("text/plain")
        assert here.stage.made == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OfferError("the offer's m-lines changed"), 400),
        (OfferUnsupported("no common H.264 profile"), 422),
        (NameRefused("sessions is kept"), 400),
    ],
)
async def test_what_the_stage_refuses_is_said_in_its_words(error: Exception, status: int) -> None:
    async with house(stage=MemoryStage(raises=error)) as here:
        found, text, _ = await post(here, "/whip")
        assert (found, text) == (status, str(error))


async def test_a_bug_of_the_stage_is_a_bare_500() -> None:
    async with house(stage=MemoryStage(raises=ValueError("inner matters"))) as here:
        status, text, _ = await post(here, "/whip")
        assert status == 500 and "inner matters" not in text


async def test_a_full_server_says_when_to_ask_again() -> None:
    async with house(stage=MemoryStage(limit=1)) as here:
        assert (await post(here, "/whip"))[0] == 201
        status, text, headers = await post(here, "/whip")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert text.startswith("all 1 lanes are taken")


async def test_before_the_warm_up_is_over_no_session_is_admitted() -> None:
    async with house(stage=MemoryStage(ready=False, reason="the worker warms up")) as here:
        status, text, headers = await post(here, "/whip")
        assert (status, text, headers["Retry-After"]) == (503, "the worker warms up", "5")
        assert here.stage.made == 0


async def test_a_body_over_the_limit_is_413() -> None:
    async with house() as here:
        status, text, _ = await post(here, "/whip", PUBLISHER + "a=x\r\n" * 20_000)
        assert status == 413 and "over 65536 bytes" in text


async def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signalling, "BODY_S", 0.2)
    async with house() as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        head = "POST /whip HTTP/1.1\nHost: localhost\nContent-Type: application/sdp\n"
        writer.write(f"{head}Content-Length: 5000\n\nv=0".replace("\n", "\r\n").encode())
        async with asyncio.timeout(5):
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        await writer.wait_closed()
        assert answer.startswith("HTTP/1.1 408")
        assert re.search(r"^Connection: close", answer, re.M)


async def test_a_client_that_leaves_before_its_answer_disturbs_nobody() -> None:
    async with house(stage=MemoryStage(patience_s=0.3)) as here:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await post(here, "/whip/left")
        status, _, _ = await post(here, "/whip/stays")
        assert status == 201


async def test_checking_offers_never_blocks_the_loop() -> None:
    async with house() as here:
        crowded = PUBLISHER + "a=rtcp-fb:* nack\r\n" * 1900
        with blockbuster_ctx():
            loop = asyncio.get_running_loop()
            began = loop.time()
            for offer in (crowded, PUBLISHER, "a=x\r\n" * 5000):
                await post(here, "/whip", offer)
            assert loop.time() - began < 1


async def test_names_and_secrets_come_out_of_no_error() -> None:
    async with house() as here:
        await post(here, "/whip/aya")
        async with here.client.delete("/whip/sessions/secret-9") as answer:
            assert "secret" not in await answer.text()
        with pytest.raises(aiohttp.ClientResponseError):
            async with here.client.get("/sessions/nobody", raise_for_status=True):
                pass
