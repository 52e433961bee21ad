"""Whether an SDP offer can be answered, judged before any peer connection sees it.

Everything that aiortc trusts is checked here: what it would choke on half way leaks sockets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from aiortc.codecs import CODECS
from aiortc.rtcicetransport import RTCIceCandidate
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import MediaDescription, SessionDescription, candidate_from_sdp

from stream.unsaid import said
from workers.errors import OfferError, OfferUnsupported

MAX_BYTES = 64 * 1024
# A browser's fullest offer has about 400 lines; parsing costs lines times codecs.
MAX_LINES = 2000
MAX_SECTIONS = 8
MAX_CODECS = 128  # there are no more payload types
MAX_CANDIDATES = 64  # of an offer, a fragment, and in all
MAX_FOUNDATION = 64  # 32 by RFC 8839, section 5.1; some write more

_HASHES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}  # RFC 8122, section 5
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/=_-]*")  # RFC 8839, section 5.4, and base64url besides
_MDNS = re.compile(r"[a-zA-Z0-9-]{1,63}\.local")
_DATA = "webrtc-datachannel"
_TOKEN = re.compile(r"[!#-'*+.0-9A-Z^-~-]{1,64}")

# What aiortc's parser raises at lines that it cannot read.
_UNREADABLE = (AssertionError, AttributeError, LookupError, StopIteration, TypeError, ValueError)


class Way(Enum):
    """Which way the offer's video goes, as its sender sees it."""

    SENDS = "sendonly"
    RECEIVES = "recvonly"
    BOTH = "sendrecv"


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that can be answered."""

    text: str
    video: Way
    has_audio: bool


def check_publisher(text: str) -> Offer:
    """Raises OfferError (malformed), or OfferUnsupported (well formed, but not for WHIP here)."""
    offer = _check(text)
    if offer.video is Way.RECEIVES:
        raise OfferUnsupported(
            "the offer's video is recvonly, but a publisher sends: "
            "offer sendonly, or sendrecv to get the avatar back"
        )
    return offer


def check_viewer(text: str) -> Offer:
    """Raises OfferError (malformed), or OfferUnsupported (well formed, but not for WHEP here)."""
    offer = _check(text, may_have_data=False)
    if offer.video is Way.SENDS:
        raise OfferUnsupported(
            "the offer's video is sendonly, but a viewer receives: offer recvonly"
        )
    return offer


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a peer trickles (RFC 8840): candidates that can be used, and under which ice-ufrag."""

    ufrags: frozenset[str]  # empty where it names none
    candidates: tuple[RTCIceCandidate, ...]  # their sdpMid is None where no section was named


def check_fragment(text: str) -> Fragment:
    """An SDP fragment (application/trickle-ice-sdpfrag). Raises OfferError for a malformed one."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise OfferError(f"the fragment is over {MAX_BYTES} bytes: send a smaller one")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        raise OfferError(f"the fragment has over {MAX_LINES} lines: send a smaller one")
    ufrags: set[str] = set()
    candidates: list[RTCIceCandidate] = []
    mid: str | None = None
    for number, line in enumerate(lines, 1):
        if not re.match(r"[a-z]=[^\x00]", line):
            raise OfferError(f"line {number} of the fragment is no line of SDP")
        name, _, value = line.partition(":")
        match name:
            case "a=mid":
                mid = value
            case "a=ice-ufrag":
                ufrags.add(value)
            case "a=candidate":
                candidate = _read_candidate(value)
                candidate.sdpMid = mid
                candidates.append(candidate)
            case _ if line.startswith("m="):
                mid = None
    _check_candidates(candidates, "the fragment")
    return Fragment(frozenset(ufrags), tuple(it for it in candidates if _is_of_use(it)))


def ufrags_of(offer: str) -> frozenset[str]:
    """The names under which the offer's sender takes ICE checks: another one is a restart."""
    return frozenset(re.findall(r"^a=ice-ufrag:(\S+)\s*$", offer, re.MULTILINE))


def without_unused(offer: str) -> str:
    """The checked offer with those candidates alone that lead somewhere from here.

    A name (mDNS) takes multicast to resolve, and a second where there is no answer, while the peer
    reaches ours without it. So what is left is never the whole list, and its end is not told:
    aioice would give up before the peer's own checks arrive.
    """
    return "".join(f"{line}\r\n" for line in offer.splitlines() if _is_kept(line))


def _is_kept(line: str) -> bool:
    name, _, value = line.strip().partition(":")
    if name == "a=candidate":
        return _is_of_use(_read_candidate(value))
    return name != "a=end-of-candidates"


def answer_setup(offer: str) -> str:
    """The `a=setup` of the answer to a checked offer: `active` to a passive one, else `passive`.

    To actpass, too (RFC 9725, section 4.2): as a DTLS client aiortc offers ECDSA ciphers alone,
    so a peer with an RSA key would never connect.
    """
    found = re.search(r"^a=setup:(\w+)\s*$", offer, re.MULTILINE)
    return "active" if found is not None and found[1] == "passive" else "passive"


def _check(text: str, *, may_have_data: bool = True) -> Offer:
    description = _parse(text)
    _check_sections(description, may_have_data=may_have_data)
    _check_bundle(description)
    for media in description.media:
        _check_transport(media)
        if media.kind == "application":
            _check_data(media, description)
        else:
            _check_media(media)
    candidates = [it for media in description.media for it in media.ice_candidates]
    _check_candidates(candidates, "the offer")
    (video,) = (media for media in description.media if media.kind == "video")
    assert video.direction is not None
    return Offer(
        text=text,
        video=Way(video.direction),
        has_audio=any(media.kind == "audio" for media in description.media),
    )


def _parse(text: str) -> SessionDescription:
    if not text.strip():
        raise OfferError("the offer is empty: post the SDP of an offer as the body")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise OfferError(f"the offer is over {MAX_BYTES} bytes: send a smaller one")
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise OfferError(f"the offer has over {MAX_LINES} lines: send a smaller one")
    if lines[0].strip() != "v=0":
        raise OfferError("the offer does not begin with v=0: post SDP, not JSON or HTML")
    for number, line in enumerate(lines, 1):
        if line.strip() and not re.match(r"[a-z]=[^\x00]", line):
            raise OfferError(f"line {number} of the offer is no line of SDP")
    for what, limit in (("a=rtpmap:", MAX_CODECS * MAX_SECTIONS), ("m=", MAX_SECTIONS)):
        if sum(line.startswith(what) for line in lines) > limit:
            raise OfferError(f"the offer has more than {limit} {what} lines")
    try:
        return SessionDescription.parse(said(text))
    except _UNREADABLE as error:
        raise OfferError(
            f"a line of the offer cannot be read ({type(error).__name__}: {str(error)[:80]})"
            if str(error)
            else "a line of the offer cannot be read: a value is missing or malformed"
        ) from None


def _check_sections(description: SessionDescription, *, may_have_data: bool) -> None:
    kinds = [media.kind for media in description.media]
    if not kinds:
        raise OfferError("the offer has no m= section: add a video track or transceiver")
    for kind in kinds:
        if kind not in ("audio", "video") and not (may_have_data and kind == "application"):
            raise OfferUnsupported(f"the offer has an m={kind[:20]} section: leave it out")
        if kinds.count(kind) > 1:
            # RFC 9725, section 4.4.2: at most one track of a kind.
            raise OfferUnsupported(f"the offer has {kinds.count(kind)} {kind} sections: offer one")
    if "video" not in kinds:
        raise OfferUnsupported("the offer has no video section: add a video track or transceiver")


def _check_bundle(description: SessionDescription) -> None:
    mids = [media.rtp.muxId for media in description.media]
    for media in description.media:
        if not _TOKEN.fullmatch(media.rtp.muxId or ""):
            raise OfferError(f"the offer's {media.kind} section has no usable a=mid")
    if len(set(mids)) < len(mids):
        raise OfferError("two sections of the offer have the same a=mid")
    bundles = [group.items for group in description.group if group.semantic == "BUNDLE"]
    if len(bundles) > 1:
        raise OfferError("the offer has more than one BUNDLE group")
    for bundle in bundles:
        if len(set(bundle)) < len(bundle) or not set(bundle) <= set(mids):
            raise OfferError("the offer's BUNDLE group does not name each a=mid once")


def _check_transport(media: MediaDescription) -> None:
    where = f"the offer's {media.kind} section"
    ice = media.ice
    assert ice is not None, "the parser always makes one"
    for name, value, least in (
        ("a=ice-ufrag", ice.usernameFragment, 4),
        ("a=ice-pwd", ice.password, 22),
    ):
        if not value:
            raise OfferError(f"{where} has no {name}")
        if not (least <= len(value) <= 256 and _ICE_CHARS.fullmatch(value)):
            raise OfferError(f"{where} has an {name} that is not of the form of RFC 8839")
    if media.dtls is None:
        raise OfferError(f"{where} has no a=setup: offer actpass")
    if not media.dtls.fingerprints:
        raise OfferError(f"{where} has no a=fingerprint")
    known = [it for it in media.dtls.fingerprints if it.algorithm.lower() in _HASHES]
    if not known:
        raise OfferUnsupported(f"{where} has no a=fingerprint of sha-256, sha-384 or sha-512")
    for it in known:
        pairs = _HASHES[it.algorithm.lower()]
        if not re.fullmatch(rf"(?i:[0-9a-f]{{2}}(:[0-9a-f]{{2}}){{{pairs - 1}}})", it.value):
            raise OfferError(f"{where} has a malformed a=fingerprint")
    if not media.rtcp_mux and media.kind != "application":
        raise OfferUnsupported(f"{where} has no a=rtcp-mux: RTP and RTCP must share a port")


def _check_data(media: MediaDescription, description: SessionDescription) -> None:
    """Data channels: RFC 8841, and in the video's bundle, as browsers offer them."""
    where = "the offer's application section"
    if media.profile not in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP") or media.fmt != [_DATA]:
        raise OfferUnsupported(f"{where} is no {_DATA} over UDP/DTLS/SCTP: leave it out")
    if not 1 <= (media.sctp_port or 0) <= 65535:
        raise OfferError(f"{where} has no a=sctp-port from 1 to 65535")
    mids = {it.rtp.muxId for it in description.media}
    bundles = [set(it.items) for it in description.group if it.semantic == "BUNDLE"]
    if bundles != [mids]:
        raise OfferUnsupported(f"{where} is not bundled with all others: bundle it")


def _check_media(media: MediaDescription) -> None:
    where = f"the offer's {media.kind} section"
    if len(media.rtp.codecs) > MAX_CODECS:
        raise OfferError(f"{where} has more than {MAX_CODECS} codecs")
    if media.direction is None:
        # sendrecv by RFC 8866, section 6.7, but aiortc then hands out no track.
        raise OfferUnsupported(f"{where} names no direction: add sendonly, recvonly or sendrecv")
    if media.kind == "video" and media.direction == "inactive":
        raise OfferUnsupported(f"{where} is inactive: add sendonly, recvonly or sendrecv")
    # aiortc's own judgement, which minds H.264 profiles, too.
    if not find_common_codecs(CODECS[media.kind], media.rtp.codecs):
        if _modes_of_h264(media) == {"0"} and media.direction != "sendonly":
            raise OfferUnsupported(
                f"{where} has H264 of packetization-mode=0 alone, and what is sent from here is "
                "not of that mode: offer packetization-mode=1 as well, or VP8, or sendonly"
            )
        names = "H264 (baseline) or VP8" if media.kind == "video" else "Opus"
        raise OfferUnsupported(f"{where} has no codec that is known here: offer {names}")
    if any(not 1 <= it.id <= 255 for it in media.rtp.headerExtensions):
        raise OfferError(f"{where} has an a=extmap whose id is not 1 to 255")
    grouped = [ssrc for group in media.ssrc_group for ssrc in group.items]
    for ssrc in [it.ssrc for it in media.ssrc] + grouped:
        if not (isinstance(ssrc, int) and 0 <= ssrc < 2**32):
            raise OfferError(f"{where} has an a=ssrc beyond 32 bits")


def _modes_of_h264(media: MediaDescription) -> set[str]:
    h264 = [it for it in media.rtp.codecs if it.mimeType.lower() == "video/h264"]
    return {str(it.parameters.get("packetization-mode", "0")) for it in h264}


def _read_candidate(value: str) -> RTCIceCandidate:
    try:
        return candidate_from_sdp(value)
    except _UNREADABLE:
        raise OfferError("a candidate cannot be read: a value is missing or malformed") from None


def _check_candidates(candidates: Sequence[RTCIceCandidate], where: str) -> None:
    if len(candidates) > MAX_CANDIDATES:
        raise OfferError(f"{where} has more than {MAX_CANDIDATES} candidates: send fewer")
    for it in candidates:
        if not 0 <= it.port <= 65535:
            raise OfferError(f"a candidate of {where} has port {str(it.port)[:20]}: 65535 at most")
        if not 0 <= it.priority < 2**32 or len(it.foundation) > MAX_FOUNDATION:
            raise OfferError(f"a candidate of {where} is beyond the bounds of RFC 8839")
        if not _MDNS.fullmatch(it.ip) and not _is_address(it.ip):
            raise OfferError(f"a candidate of {where} has no IP address, nor a .local name")


def _is_of_use(it: RTCIceCandidate) -> bool:
    """Whether a check can be sent there: not over TCP, to a name, nor to this machine's inside."""
    if it.protocol.lower() != "udp" or it.component != 1 or it.port == 0:
        return False
    try:
        address = ip_address(it.ip)
    except ValueError:
        return False
    return not (address.is_link_local or address.is_loopback or address.is_unspecified)


def _is_address(text: str) -> bool:
    try:
        return not ip_address(text).is_multicast
    except ValueError:
        return False
