"""What an offer may leave unsaid: put in for aiortc, which wants it, and kept out of the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain

_TRANSPORT = ("ice-ufrag", "ice-pwd", "fingerprint", "setup", "rtcp-mux")
_MODE = re.compile(r";?\s*packetization-mode=(\d+)")

Lines = list[str]


def said(offer: str) -> str:
    """The offer with its bundle-only sections' transport, and H.264 in a mode that aiortc knows.

    Its lines are SDP's by form; of what is no offer otherwise, something that is none either.
    """
    head, sections = _parted(offer)
    for lines in sections:
        if _is_bundle_only(lines):
            lines += _missing(lines, _tagged(head, sections))
        for payload_type, parameters in single_nal(lines).items():
            others = _MODE.sub("", parameters or "").strip("; ")
            fmtp = f"a=fmtp:{payload_type} packetization-mode=1;{others}".rstrip(";")
            lines[:] = [it for it in lines if not it.startswith(f"a=fmtp:{payload_type} ")]
            lines.append(fmtp)
    return _joined(head, sections)


def as_offered(answer: str, offer: str) -> str:
    """The answer in the offer's own packetization mode, which both must name (RFC 6184, 8.2.2)."""
    offered = dict(chain.from_iterable(single_nal(lines).items() for lines in _parted(offer)[1]))
    kept: Lines = []
    for line in answer.splitlines():
        found = re.match(r"a=fmtp:(\d+) ", line)
        if found is None or found[1] not in offered:
            kept.append(line)
        elif (parameters := offered[found[1]]) is not None:
            kept.append(f"a=fmtp:{found[1]} {parameters}")
    return _joined(kept, [])


def single_nal(section: Sequence[str]) -> Mapping[str, str | None]:
    """A sender's H.264 payload types of packetization mode 0, with their parameters, where the
    section offers nothing better. Without a word of it, the mode is 0 (RFC 6184, section 8.1).

    Each of its packets is one that comes in mode 1 as well. None of ours would be one of mode 0.
    """
    if not section[0].startswith("m=video ") or "a=sendonly" not in section:
        return {}
    codecs = dict(_values(section, r"a=rtpmap:(\d+) ([^/\s]+)/"))
    told = dict(_values(section, r"a=fmtp:(\d+) (.*)"))
    found = {it: told.get(it) for it, name in codecs.items() if name.upper() == "H264"}
    modes = {it: _MODE.search(parameters or "") for it, parameters in found.items()}
    others = {name.upper() for name in codecs.values()}
    if "VP8" in others or any(mode is not None and mode[1] == "1" for mode in modes.values()):
        return {}
    return {it: found[it] for it, mode in modes.items() if mode is None or mode[1] == "0"}


def _is_bundle_only(lines: Sequence[str]) -> bool:
    return "a=bundle-only" in lines and re.match(r"m=\S+ 0 ", lines[0]) is not None


def _tagged(head: Sequence[str], sections: Sequence[Lines]) -> Lines:
    """The section that speaks for the bundle: the first of its group (RFC 9143, section 7.2)."""
    for _, mid in _values(head, r"a=group:(BUNDLE) (\S+)"):
        for lines in sections:
            if f"a=mid:{mid}" in lines:
                return lines
    return []


def _missing(lines: Sequence[str], tagged: Sequence[str]) -> Lines:
    """RFC 9143, section 7.1.3: transport is told in the tagged section, for all of the bundle."""

    def of(name: str, all_lines: Sequence[str]) -> Lines:
        return [it for it in all_lines if re.match(rf"a={name}(:|$)", it)]

    return list(chain.from_iterable(of(it, tagged) for it in _TRANSPORT if not of(it, lines)))


def _values(lines: Sequence[str], pattern: str) -> list[tuple[str, str]]:
    return [(it[1], it[2]) for it in map(re.compile(pattern).match, lines) if it is not None]


def _parted(text: str) -> tuple[Lines, list[Lines]]:
    """What holds for the session, and each section, from its m= line on."""
    head: Lines = []
    sections: list[Lines] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("m="):
            sections.append([])
        if line:
            (sections[-1] if sections else head).append(line)
    return head, sections


def _joined(head: Sequence[str], sections: Sequence[Lines]) -> str:
    return "".join(f"{line}\r\n" for line in chain(head, *sections))
