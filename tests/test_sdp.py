"""Offers are judged before any peer connection sees them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from offers import AUDIO, DATA, FINGERPRINT, PUBLISHER, VIDEO, VIEWER, WITH_DATA, sdp

from stream.sdp import (
    Way,
    answer_setup,
    check_publisher,
    check_viewer,
    without_unused,
)
from stream.unsaid import said
from workers.errors import OfferError, OfferUnsupported


async def test_aiortc_answers_what_was_let_through() -> None:
    for offer in (PUBLISHER, VIEWER, WITH_DATA, sdp(VIDEO), PUBLISHER.replace("\r\n", "\n")):
        assert await _answered(offer)


def test_the_way_of_the_video_and_the_audio_are_read() -> None:
    offer = check_publisher(PUBLISHER)
    assert (offer.video, offer.has_audio) == (Way.SENDS, True)
    both = check_publisher(sdp(VIDEO.replace("sendonly", "sendrecv")))
    assert (both.video, both.has_audio) == (Way.BOTH, False)
    assert check_viewer(VIEWER).video is Way.RECEIVES


def test_an_offer_without_candidates_is_taken() -> None:
    lines = [line for line in PUBLISHER.split("\r\n") if not line.startswith("a=candidate")]
    check_publisher("\r\n".join(lines))


def test_transport_attributes_may_stand_once_for_the_session() -> None:
    moved = f"a=fingerprint:{FINGERPRINT}\na=setup:actpass\n"
    video = VIDEO.replace(f"a=fingerprint:{FINGERPRINT}\n", "").replace("a=setup:actpass\n", "")
    check_publisher(sdp(moved, video))


@dataclass(frozen=True, slots=True)
class Case:
    offer: str
    says: str


def _edited(old: str, new: str) -> str:
    assert old in VIDEO
    return sdp(VIDEO.replace(old, new))


@pytest.mark.parametrize(
    "case",
    [
        Case("", "is empty"),
        Case(" \r\n ", "is empty"),
        Case('{"sdp": "v=0"}', "does not begin with v=0"),
        Case("v=0\r\nhello", "line 2 of the offer"),
        Case("v=0\r\na=x\x00y\r\n" + "z" * 70_000, "over 65536 bytes"),
        Case("v=0\r\n" + "a=x\r\n" * 3000, "over 2000 lines"),
        Case(sdp(), "no m= section"),
        Case(sdp(*["m=video 9 UDP/TLS/RTP/SAVPF 96\n"] * 9), "more than 8 m= lines"),
        Case(_edited("m=video 9 UDP/TLS/RTP/SAVPF 96", "m=video nine UDP 96"), "cannot be read"),
        Case(_edited("a=mid:1\n", ""), "no usable a=mid"),
        Case(sdp(AUDIO.replace("mid:audio0", "mid:1"), VIDEO), "the same a=mid"),
        Case(sdp(VIDEO, bundle="1 2"), "BUNDLE"),
        Case(sdp(VIDEO, bundle="1 1"), "BUNDLE"),
        Case(_edited("a=ice-ufrag:Ab1/\n", ""), "no a=ice-ufrag"),
        Case(_edited("a=ice-ufrag:Ab1/", "a=ice-ufrag:Ab1"), "RFC 8839"),
        Case(_edited("a=ice-pwd:0123456789abcdefghijklmn\n", ""), "no a=ice-pwd"),
        Case(_edited("a=setup:actpass\n", ""), "no a=setup"),
        Case(_edited("a=setup:actpass", "a=setup:holdconn"), "cannot be read"),
        Case(_edited(f"a=fingerprint:{FINGERPRINT}\n", ""), "no a=fingerprint"),
        Case(_edited(FINGERPRINT, "sha-256 AB:CD"), "malformed a=fingerprint"),
        Case(_edited("192.0.2.7 50000", "192.0.2.7 99999"), "port 99999"),
        Case(_edited("192.0.2.7 50000", "192.0.2.777 50000"), "no IP address"),
        Case(_edited("192.0.2.7 50000", "camera.example 50000"), "no IP address"),
        Case(_edited("192.0.2.7 50000", "224.0.0.1 50000"), "no IP address"),
        Case(
            _edited(
                "a=sendonly", "a=candidate:1 1 udp 1 192.0.2.7 9 typ host\n" * 64 + "a=sendonly"
            ),
            "more than 64",
        ),
        Case(_edited("a=extmap:4", "a=extmap:300"), "a=extmap"),
        Case(_edited("a=ssrc:1001", "a=ssrc:99999999999"), "32 bits"),
        Case(WITH_DATA.replace("a=sctp-port:5000\r\n", ""), "no a=sctp-port"),
        Case(WITH_DATA.replace("a=sctp-port:5000", "a=sctp-port:0"), "no a=sctp-port"),
        Case(WITH_DATA.replace("a=sctp-port:5000", "a=sctp-port:x"), "cannot be read"),
    ],
    ids=lambda case: case.says,
)
def test_a_malformed_offer_is_refused_in_the_clients_terms(case: Case) -> None:
    with pytest.raises(OfferError, match=case.says) as refused:
        check_publisher(case.offer)
    assert not isinstance(refused.value, OfferUnsupported)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "case",
    [
        Case(sdp(AUDIO), "no video section"),
        Case(sdp(VIDEO, VIDEO.replace("mid:1", "mid:2")), "2 video sections"),
        Case(sdp(VIDEO, "m=text 9 RTP/AVP 98\n"), "m=text"),
        Case(sdp(AUDIO, VIDEO, DATA, bundle="audio0 1"), "is not bundled"),
        Case(sdp(VIDEO, DATA), "is not bundled"),
        Case(WITH_DATA.replace("webrtc-datachannel", "bfcp"), "no webrtc-datachannel"),
        Case(WITH_DATA.replace("UDP/DTLS/SCTP", "DTLS/SCTP"), "no webrtc-datachannel"),
        Case(_edited("VP8/90000", "AV1/90000").replace("H264/", "H265/"), "offer H264"),
        Case(
            _edited("VP8/90000", "AV1/90000").replace("-mode=1", "-mode=2"),
            "no codec that is known here",
        ),
        Case(
            _edited("VP8/90000", "AV1/90000")
            .replace("-mode=1", "-mode=0")
            .replace("sendonly", "sendrecv"),
            "packetization-mode=0 alone.*or sendonly",
        ),
        Case(sdp(AUDIO.replace("opus/48000", "speex/16000"), VIDEO), "offer Opus"),
        Case(_edited("a=sendonly", "a=recvonly"), "a publisher sends"),
        Case(_edited("a=sendonly", "a=inactive"), "inactive"),
        Case(_edited("a=sendonly\n", ""), "names no direction"),
        Case(_edited("a=rtcp-mux\n", ""), "rtcp-mux"),
        Case(_edited(FINGERPRINT, "sha-1 " + ":".join(["AB"] * 20)), "sha-256"),
    ],
    ids=lambda case: case.says,
)
def test_what_is_not_to_be_had_is_told_apart_from_what_is_malformed(case: Case) -> None:
    with pytest.raises(OfferUnsupported, match=case.says):
        check_publisher(case.offer)


def test_a_viewer_that_only_sends_is_refused() -> None:
    with pytest.raises(OfferUnsupported, match="a viewer receives"):
        check_viewer(PUBLISHER)


def test_data_channels_are_a_publisher_s_alone() -> None:
    assert check_publisher(WITH_DATA).has_audio
    with pytest.raises(OfferUnsupported, match="m=application section: leave it out"):
        check_viewer(WITH_DATA.replace("sendonly", "recvonly"))


def test_the_answer_is_passive_save_to_a_passive_offer() -> None:
    assert answer_setup(PUBLISHER) == "passive"
    assert answer_setup(PUBLISHER.replace("actpass", "active")) == "passive"
    assert answer_setup(PUBLISHER.replace("actpass", "passive")) == "active"


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["drop", "double", "cut", "swap", "number", "garble"]),
        st.integers(0, 200),
        st.integers(0, 200),
    ),
    max_size=4,
)


def _mutated(offer: str, edits: list[tuple[str, int, int]]) -> str:
    lines = offer.split("\r\n")[:-1]
    for kind, at, by in edits:
        at %= len(lines)
        line = lines[at]
        match kind:
            case "drop":
                lines.pop(at)
            case "double":
                lines.insert(by % len(lines), line)
            case "cut":
                lines[at] = line[: by % (len(line) + 1)]
            case "swap":
                other = by % len(lines)
                lines[at], lines[other] = lines[other], line
            case "number":
                lines[at] = "".join(str(by) if it.isdigit() else it for it in line)
            case "garble":
                lines[at] = line[: by % (len(line) + 1)] + "\t;:= é" + line[by % (len(line) + 1) :]
        lines = lines or ["v=0"]
    return "\r\n".join(lines) + "\r\n"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([PUBLISHER, WITH_DATA]), EDITS)
async def test_no_offer_that_is_let_through_breaks_a_peer_connection(
    whole: str, edits: list[tuple[str, int, int]]
) -> None:
    offer = _mutated(whole, edits)
    try:
        check_publisher(offer)
    except OfferError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert await _answered(offer)


async def _answered(offer: str) -> bool:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        await peer.setRemoteDescription(RTCSessionDescription(said(offer), "offer"))
        answer = await peer.createAnswer()
        return "m=video" in answer.sdp
    finally:
        await peer.close()


def test_candidates_that_lead_nowhere_from_here_are_left_out_and_so_is_their_end() -> None:
    kinds = """\
a=candidate:1 1 udp 1 192.0.2.7 50000 typ host
a=candidate:2 1 TCP 1 192.0.2.7 9 typ host tcptype active
a=candidate:3 1 UDP 1 fe80::1 50001 typ host
a=candidate:4 1 UDP 1 a-b.local 50002 typ host
a=candidate:5 1 UDP 1 127.0.0.1 50003 typ host
a=candidate:6 2 UDP 1 192.0.2.7 50004 typ host
a=candidate:7 1 UDP 1 192.0.2.8 50005 typ relay raddr 0.0.0.0 rport 9
a=end-of-candidates
a=mid:1
"""
    left = without_unused(kinds).splitlines()
    assert [line.split(" ")[0] for line in left] == ["a=candidate:1", "a=candidate:7", "a=mid:1"]
