"""The doors: who may ask, by which name, from which page."""

from __future__ import annotations

import gzip
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from offers import PUBLISHER
from stages import House, MemoryStage, house, raw

from stream.doors import doors
from stream.settings import Settings

SDP = {"Content-Type": "application/sdp"}
TOKEN = "hunter2hunter2"
PAGE = "https://page.example"


async def status_for_host(here: House, host: str) -> int:
    async with here.client.get("/sessions", headers={"Host": host}) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("settings", "hosts", "status"),
    [
        (Settings(), ["127.0.0.1", "127.0.0.1:1", "localhost:80", "[::1]:80", "a.localhost"], 200),
        (Settings(), ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", "0.0.0.0"], 421),
        (Settings(advertise="https://Box.example:8443/x"), ["box.example", "BOX.example:1"], 200),
        (Settings(advertise="https://box.example"), ["other.example"], 421),
        (Settings(allowed_hosts=("a.example", "b.example")), ["a.example", "b.example:1"], 200),
        (Settings(host="box.example"), ["box.example"], 200),
        (Settings(host="0.0.0.0", insecure=True), ["0.0.0.0:8080", "evil.example"], 421),
        (Settings(), ["a b", "user@localhost", "localhost/x"], 400),
    ],
)
async def test_only_a_name_of_this_server_is_answered(
    settings: Settings, hosts: list[str], status: int
) -> None:
    async with house(settings) as here:
        for host in hosts:
            assert await status_for_host(here, host) == status, host


async def test_a_stranger_host_hears_the_mend_at_every_address() -> None:
    async with house() as here:
        for path in ("/", "/whip", "/healthz", "/nowhere"):
            async with here.client.get(path, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 421
                assert "--allowed-host evil.example" in await answer.text()
        async with here.client.options("/whip", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421


async def test_a_missing_or_second_host_is_refused() -> None:
    async with house() as here:
        assert " 400 " in (await raw(here.port, "GET /sessions HTTP/1.0\n\n")).split("\r\n")[0]
        twice = "GET /sessions HTTP/1.0\nHost: localhost\nHost: localhost\n\n"
        assert " 400 " in (await raw(here.port, twice)).split("\r\n")[0]


async def test_an_own_address_is_the_one_the_connection_came_in_by() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    (check,) = doors(Settings(host="0.0.0.0", insecure=True), ())[1:2]
    for host, status in (("192.0.2.9:8080", 200), ("192.0.2.8:8080", 421), ("0.0.0.0", 421)):
        transport = Mock()
        transport.get_extra_info = {"sockname": ("192.0.2.9", 80)}.get
        request = make_mocked_request("GET", "/", {"Host": host}, transport=transport)
        try:
            assert (await check(request, answer)).status == status
        except web.HTTPException as refused:
            assert refused.status == status


async def test_cors_answers_nobody_by_default() -> None:
    async with house() as here:
        async with here.client.get("/sessions", headers={"Origin": PAGE}) as answer:
            assert not [name for name in answer.headers if name.startswith("Access-Control")]
        ask = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        async with here.client.options("/whip", headers=ask) as answer:
            assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_cors_answers_a_listed_origin_and_no_other() -> None:
    async with house(Settings(cors_origins=(PAGE,), token=TOKEN)) as here:
        ask = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "authorization",
        }
        async with here.client.options("/whip/sessions/x", headers=ask) as answer:
            assert answer.status == 200  # a preflight brings no token
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
            assert answer.headers["Vary"] == "Origin"
        for origin in ("https://evil.example", "null", PAGE + ".evil.example"):
            async with here.client.options("/whip", headers={**ask, "Origin": origin}) as answer:
                assert "Access-Control-Allow-Origin" not in answer.headers
                assert answer.headers["Vary"] == "Origin"


async def test_cors_lets_a_page_read_what_whip_answers_also_a_refusal() -> None:
    async with house(Settings(cors_origins=("*",))) as here:
        page = {**SDP, "Origin": PAGE}
        for offer, status in ((PUBLISHER, 201), ("nonsense", 400)):
            async with here.client.post("/whip", data=offer, headers=page) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
                assert {"Location", "Omokage-Session", "ETag", "Link"} <= set(exposed)


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong-token", f"Basic {TOKEN}", "Bearer", TOKEN, "Bearer hunter2é"]
)
async def test_without_the_token_nothing_is_read_or_changed(given: str | None) -> None:
    async with house(Settings(token=TOKEN)) as here:
        headers = {**SDP, **({"Authorization": given} if given else {})}
        for method, path in (
            ("POST", "/whip"),
            ("POST", "/whip/aya"),
            ("POST", "/whep/aya"),
            ("DELETE", "/whip/sessions/x"),
            ("GET", "/sessions"),
            ("GET", "/sessions/aya"),
            ("GET", "/state"),
            ("GET", "/nowhere"),
        ):
            async with here.client.request(method, path, data=PUBLISHER, headers=headers) as answer:
                assert answer.status == 401, path
                assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="omokage"')
                assert TOKEN not in await answer.text()
        assert here.stage.made == 0


async def test_with_the_token_everything_is() -> None:
    async with house(Settings(token=TOKEN)) as here:
        for scheme in ("Bearer", "bearer"):
            headers = {**SDP, "Authorization": f"{scheme} {TOKEN}"}
            async with here.client.post("/whip", data=PUBLISHER, headers=headers) as answer:
                assert answer.status == 201
            async with here.client.get("/sessions", headers=headers) as answer:
                assert answer.status == 200


async def test_the_page_and_the_probes_need_no_token() -> None:
    async with house(Settings(token=TOKEN)) as here:
        for path in ("/", "/watch/aya", "/web/studio.js", "/healthz", "/readyz"):
            async with here.client.get(path) as answer:
                assert answer.status == 200, path


async def test_a_packed_body_is_refused_unopened() -> None:
    async with house() as here:
        packed = {**SDP, "Content-Encoding": "gzip"}
        body = gzip.compress(PUBLISHER.encode())
        async with here.client.post("/whip", data=body, headers=packed) as answer:
            assert answer.status == 415
            assert answer.headers["Accept-Encoding"] == "identity"
        plain = {**SDP, "Content-Encoding": "identity"}
        async with here.client.post("/whip", data=PUBLISHER, headers=plain) as answer:
            assert answer.status == 201


async def test_every_response_says_little_of_the_server_and_much_to_the_browser() -> None:
    async with house() as here:
        for path in ("/", "/sessions", "/nowhere", "/whip", "/web/studio.js"):
            async with here.client.get(path) as answer:
                assert "Server" not in answer.headers
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
        async with here.client.get("/") as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy and "unsafe" not in policy
            assert "media-src 'self' blob: mediastream:" in policy
            assert answer.headers["Permissions-Policy"].startswith(
                "camera=(self), microphone=(self), "
            )


async def test_an_error_is_json_for_the_api_and_a_plain_line_for_an_sdp_endpoint() -> None:
    async with house() as here:
        async with here.client.get("/nowhere") as answer:
            assert (answer.status, await answer.json()) == (404, {"error": "nothing is here"})
        async with here.client.get("/whip") as answer:
            assert answer.content_type == "text/plain"
        async with here.client.post("/sessions") as answer:
            assert answer.status == 405 and "use GET" in (await answer.json())["error"]


async def test_a_request_that_is_no_http_leaves_nothing_of_it_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with house(Settings(token=TOKEN)) as here:
        malformed = f"GET /state HTTP/1.1\nHost: localhost\nAuthorization: Bearer {TOKEN}\x01\n\n"
        assert " 400 " in (await raw(here.port, malformed)).split("\r\n")[0]
    assert TOKEN not in caplog.text


async def test_a_bug_behind_the_doors_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    stage = MemoryStage(raises=ValueError("a bug"))
    async with house(stage=stage) as here, here.client.post("/whip", data=PUBLISHER, headers=SDP):
        pass
    assert caplog.text.count("ValueError: a bug") == 1
