"""Peers that speak and peers that listen: sound whose packets carry whose they are and which."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from itertools import pairwise

from aiortc import MediaStreamTrack, RTCRtpTransceiver
from aiortc.mediastreams import MediaStreamError

from stream import receiving
from stream.audio import AudioPacket, OpusPacket, opus_packet

PACKET_S = 0.02
PACKET = 960  # samples at 48 kHz


def spoken(who: str, number: int) -> bytes:
    """A packet's payload: nobody on the way looks inside."""
    return b"\xfc" + who.encode() + struct.pack("!I", number)


class Speaker(MediaStreamTrack):
    """Packets that are already Opus, 50 a second; `is_silent` leaves some out, as DTX does."""

    kind = "audio"

    def __init__(self, who: str) -> None:
        super().__init__()
        self.who = who
        self.said: list[bytes] = []
        self.is_silent: Callable[[], bool] = lambda: False
        self._number = 0
        self._start_s: float | None = None

    async def recv(self) -> AudioPacket:
        while self.readyState == "live":
            self._start_s = self._start_s or time.monotonic()
            number = self._number
            self._number += 1
            await asyncio.sleep(max(self._start_s + number * PACKET_S - time.monotonic(), 0))
            if self.is_silent():
                continue
            self.said.append(spoken(self.who, number))
            return opus_packet(self.said[-1], number * PACKET)
        raise MediaStreamError


def listen(transceiver: RTCRtpTransceiver) -> list[OpusPacket]:
    """What comes in on it from now on; before the answer is applied."""
    heard: list[OpusPacket] = []
    receiving.AudioReceiving(transceiver, heard.append)
    return heard


def steps(heard: list[OpusPacket]) -> list[int]:
    """The RTP timestamps' own, in packets."""
    return [((b.timestamp - a.timestamp) & 0xFFFFFFFF) // PACKET for a, b in pairwise(heard)]
