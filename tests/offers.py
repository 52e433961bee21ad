"""Offers as clients write them, for tests that need no peer behind them."""

from __future__ import annotations

FINGERPRINT = "sha-256 " + ":".join(["AB"] * 32)
TRANSPORT = f"""\
a=ice-ufrag:Ab1/
a=ice-pwd:0123456789abcdefghijklmn
a=fingerprint:{FINGERPRINT}
a=setup:actpass
a=rtcp-mux
"""
VIDEO = f"""\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1 1 udp 2122260223 192.0.2.7 50000 typ host generation 0
a=candidate:2 1 udp 2122260222 3e1b1c2a-0d5e-4b0a-8a55-0e6a6b6d0001.local 50001 typ host
a=candidate:3 1 tcp 1518280447 2001:db8::7 9 typ host tcptype active
{TRANSPORT}a=mid:1
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendonly
a=msid:stream track
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=ssrc-group:FID 1001 1002
a=ssrc:1001 cname:me
a=ssrc:1002 cname:me
"""
AUDIO = f"""\
m=audio 0 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
{TRANSPORT}a=mid:audio0
a=bundle-only
a=sendonly
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
"""
DATA = f"""\
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
{TRANSPORT.replace("a=rtcp-mux", "a=ice-options:trickle")}a=mid:data
a=sctp-port:5000
a=max-message-size:262144
"""
HEAD = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\n"


def sdp(*sections: str, bundle: str | None = None) -> str:
    group = f"a=group:BUNDLE {bundle}\n" if bundle else ""
    return (HEAD + group + "".join(sections)).replace("\n", "\r\n")


PUBLISHER = sdp(AUDIO, VIDEO, bundle="audio0 1")
WITH_DATA = sdp(AUDIO, VIDEO, DATA, bundle="audio0 1 data")
VIEWER = sdp(VIDEO.replace("sendonly", "recvonly"), bundle="1")
