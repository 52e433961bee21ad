"""What an offer leaves unsaid by right is understood, and the answer says no more than it did."""

from __future__ import annotations

import re

import pytest
from aiortc import RTCPeerConnection
from aiortc.codecs.h264 import H264Encoder
from media import accept, nothing_left, offer_of, stage, until
from offers import AUDIO, PUBLISHER, TRANSPORT, VIDEO, sdp
from peers import Performer, peer

from stream import inside
from stream.sdp import check_publisher
from stream.sources.webrtc import WebRtcSource
from stream.unsaid import as_offered, said, single_nal
from workers.errors import OfferError

BARE = AUDIO.replace(TRANSPORT, "")
H264 = re.sub(r"a=(rtpmap|rtcp-fb|fmtp):9[67].*\n", "", VIDEO)
MODE_0 = re.sub(r"a=fmtp:102.*\n", "", H264)


def sections(offer: str) -> list[str]:
    return re.split(r"(?=^m=)", offer, flags=re.MULTILINE)[1:]


def test_a_bundle_only_section_goes_by_the_transport_of_its_bundle() -> None:
    offer = sdp(BARE, VIDEO, bundle="1 audio0")
    assert check_publisher(offer).has_audio
    audio, video = sections(said(offer))
    for line in TRANSPORT.splitlines():
        assert audio.splitlines().count(line) == video.splitlines().count(line) == 1


def test_what_a_bundle_only_section_says_itself_stands() -> None:
    offer = sdp(BARE.replace("a=sendonly", "a=setup:active\na=sendonly"), VIDEO, bundle="1 audio0")
    assert re.findall("a=setup:.*", sections(said(offer))[0]) == ["a=setup:active\r"]
    assert said(PUBLISHER) == PUBLISHER


@pytest.mark.parametrize(
    "offer",
    [
        sdp(BARE, VIDEO),  # no bundle
        sdp(BARE, VIDEO, bundle="audio0 1"),  # it would have to speak for the others
        sdp(BARE, VIDEO, bundle="2 audio0 1"),
        sdp(BARE.replace("m=audio 0", "m=audio 9"), VIDEO, bundle="1 audio0"),
        sdp(BARE.replace("a=bundle-only\n", ""), VIDEO, bundle="1 audio0"),
    ],
)
def test_a_section_without_transport_that_is_not_bundle_only_is_malformed(offer: str) -> None:
    with pytest.raises(OfferError, match=r"ice-ufrag|BUNDLE"):
        check_publisher(offer)


@pytest.mark.parametrize(
    ("video", "found"),
    [
        (MODE_0, {"102": None}),
        (H264.replace("-mode=1", "-mode=0"), {"102": "level-asymmetry-allowed=1;packetization-"
         "mode=0;profile-level-id=42e01f"}),
        (H264, {}),
        (H264.replace("-mode=1", "-mode=2"), {}),
        (VIDEO.replace("-mode=1", "-mode=0"), {}),  # it has VP8
        (MODE_0.replace("sendonly", "sendrecv"), {}),
    ],
)  # fmt: skip
def test_h264_of_mode_0_is_taken_from_who_only_sends_and_offers_nothing_else(
    video: str, found: dict[str, str | None]
) -> None:
    assert single_nal(video.splitlines()) == found
    offer = sdp(video)
    assert ("packetization-mode=1" in said(offer)) is bool(found or "-mode=1" in video)
    answer = "v=0\r\na=fmtp:96 x=1\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n"
    told = re.findall(r"a=fmtp:102 (.*)\r", as_offered(answer, offer))
    ours = ["packetization-mode=1;profile-level-id=42e01f"]
    assert told == [it for it in found.values() if it is not None] if found else ours
    assert "a=fmtp:96 x=1\r\n" in as_offered(answer, offer)


async def test_a_publisher_in_mode_0_is_answered_without_a_mode_and_seen() -> None:
    async with stage() as it, nothing_left():
        pc = peer()
        pc.addTransceiver(Performer("red", 30), "sendonly")
        each_nal_alone(pc)
        offer = re.sub(r"a=(fmtp|rtcp-fb|rtpmap):(?!99 H264).*\r\n", "", await offer_of(pc, "H264"))
        offer = re.sub("(m=video .* )99 .*\r", r"\g<1>99\r", offer)
        check_publisher(offer)
        source = await WebRtcSource.open(offer, it.inbox, None, lambda state: None)
        assert "H264/90000" in source.answer and "a=fmtp" not in source.answer
        mode_1 = "a=fmtp:99 packetization-mode=1;profile-level-id=42e01f\r\n"
        await accept(pc, source.answer + mode_1)  # for aiortc, who offered that
        await until(lambda: it.inbox.published > 10)
        assert source._receiving is not None and source._receiving.decoder.failed == 0
        await source.close()
        await pc.close()


def each_nal_alone(pc: RTCPeerConnection) -> None:
    """What is sent is of mode 0: no packet holds a part of a NAL unit, nor two."""
    encoder = H264Encoder()
    encoder._packetize = list  # type: ignore[method-assign, assignment]
    (sender,) = pc.getSenders()
    inside.replace(sender, "_RTCRtpSender__encoder", encoder)
