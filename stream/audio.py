"""A session's sound: Opus passed on undecoded, as late as the session's pictures are."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeAlias, cast

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from stream.lipsync import MAX_DELAY_S, Delay
from stream.steady import SteadyTime, TakenTime

OPUS_HZ = 48_000  # of its RTP clock, whatever is in it (RFC 7587, section 4.1)
OPUS_TIME_BASE = Fraction(1, OPUS_HZ)
QUEUE_S = MAX_DELAY_S + 0.25
QUEUE_PACKETS = 512  # Opus makes 400 a second at most, 50 as a rule
SINK_S = 0.25
SINK_PACKETS = 128

_PACKET = OPUS_HZ // 50
_JUMP = OPUS_HZ  # a step this far beyond the time that passed is no gap: the clock has jumped
_SOON_S = 0.001

AudioPacket: TypeAlias = "av.Packet[av.AudioStream]"  # subscriptable to type checkers alone


@dataclass(frozen=True, slots=True)
class OpusPacket:
    """One RTP packet of Opus, as it came."""

    ssrc: int
    timestamp: int  # 32 bits, 48 kHz
    payload: bytes
    arrival_s: float  # CLOCK_MONOTONIC


class OpusClock:
    """RTP timestamps in, one count of 48 kHz from 0 on out.

    It keeps the source's own spacing: a silence that was not sent is a gap, a packet that was
    overtaken steps back. A new stream (SSRC), or a clock that jumps, goes on from where the wall
    clock stands.
    """

    def __init__(self) -> None:
        self._last: OpusPacket | None = None
        self._pts = 0

    def __call__(self, packet: OpusPacket) -> int:
        last = self._last
        if last is None:
            self._last = packet
            return self._pts
        passed = round((packet.arrival_s - last.arrival_s) * OPUS_HZ)
        step = (packet.timestamp - last.timestamp) & 0xFFFFFFFF
        step -= 0x1_0000_0000 if step >= 0x8000_0000 else 0
        if packet.ssrc != last.ssrc or not -_JUMP <= step <= passed + _JUMP:
            step = max(passed, _PACKET)
        if step < 0:
            return self._pts + step
        self._last = packet
        self._pts += step
        return self._pts


def opus_packet(payload: bytes, pts: int) -> AudioPacket:
    """pts: 48 kHz."""
    packet = cast("AudioPacket", av.Packet(payload))
    packet.pts, packet.time_base = pts, OPUS_TIME_BASE
    return packet


class SoundSink(Protocol):
    """Who gets the packets: an `AudioTrack`."""

    def push(self, packet: AudioPacket, now_s: float) -> None: ...

    def stop(self) -> None: ...


@dataclass(slots=True)
class _Waiting:
    due_s: float
    pts: int
    packet: OpusPacket


class Sound:
    """One session's sound, from its publisher's packets to everyone who hears it.

    It is the session's own, from its admission to its end, and knows nothing of lanes: another
    session's packets have no way in. Belongs to the event loop.
    """

    def __init__(self) -> None:
        self.is_on = False  # whether the publisher sends sound
        self._delay = Delay()
        self.taken = TakenTime(OPUS_HZ)
        self._clock = OpusClock()
        self._queue: deque[_Waiting] = deque()  # in the order of their pts
        self._sinks: list[SoundSink] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sent_pts = -1
        self._closed = False
        self.passed = 0
        self.late = 0  # came twice, or after the one behind them had left
        self.dropped = 0  # the queue was full
        self.high_water_packets = 0

    def saw_picture(self, age_s: float, now_s: float) -> None:
        """A picture's packets left for the viewers, this long after its camera frame came."""
        self._delay.saw(age_s, now_s)

    def hear(self, packet: OpusPacket) -> None:
        """A packet from the publisher; returns at once."""
        if self._closed:
            return
        pts = self._clock(packet)
        self.taken.came(pts, packet.arrival_s)
        due_s = packet.arrival_s + self._delay.at(packet.arrival_s)
        if not self._sinks:
            return
        if not self._insert(_Waiting(due_s, pts, packet)):
            self.late += 1
            return
        self._bound(packet.arrival_s)
        self.high_water_packets = max(self.high_water_packets, len(self._queue))
        self._schedule()

    def attach(self, sink: SoundSink) -> None:
        if self._closed:
            sink.stop()
            return
        self._sinks.append(sink)

    def detach(self, sink: SoundSink) -> None:
        """It gets nothing more; detaching twice is no error."""
        if sink in self._sinks:
            self._sinks.remove(sink)

    def close(self) -> None:
        """Silence, for everyone, at once."""
        self._closed = True
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sink in tuple(self._sinks):
            sink.stop()
            self.detach(sink)

    def _insert(self, new: _Waiting) -> bool:
        """Into its place, nearly always the last; False: too late, or there already."""
        if new.pts <= self._sent_pts:
            return False
        at = len(self._queue)
        while at and self._queue[at - 1].pts >= new.pts:
            at -= 1
        if at < len(self._queue):
            if self._queue[at].pts == new.pts:
                return False
            new.due_s = min(new.due_s, self._queue[at].due_s)  # holds up nothing that came before
        self._queue.insert(at, new)
        return True

    def _bound(self, now_s: float) -> None:
        while now_s - self._queue[0].packet.arrival_s > QUEUE_S or len(self._queue) > QUEUE_PACKETS:
            self._queue.popleft()
            self.dropped += 1

    def _schedule(self) -> None:
        if self._timer is None and self._queue:
            wait_s = max(self._queue[0].due_s - time.monotonic(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._release)

    def _release(self) -> None:
        self._timer = None
        now_s = time.monotonic()
        while self._queue and self._queue[0].due_s <= now_s + _SOON_S:
            self._send(self._queue.popleft(), now_s)
        self._schedule()

    def _send(self, it: _Waiting, now_s: float) -> None:
        self._sent_pts = it.pts
        self.passed += 1
        packet = opus_packet(it.packet.payload, it.pts)
        for sink in tuple(self._sinks):
            sink.push(packet, now_s)


class AudioTrack(MediaStreamTrack):
    """A session's sound, for an aiortc sender: from its first `recv` on.

    Behind by more than a quarter of a second, it lets the oldest go.
    """

    kind = "audio"

    def __init__(self, sound: Sound) -> None:
        super().__init__()
        self._sound = sound
        self._packets: deque[tuple[float, AudioPacket]] = deque()
        self._arrived = asyncio.Event()
        self._attached = False
        self.time = SteadyTime(sound.taken)
        self.skipped = 0

    async def recv(self) -> AudioPacket:
        """The next packet. Raises MediaStreamError after `stop`."""
        if not self._attached and self.readyState == "live":
            self._attached = True
            self._sound.attach(self)
        while self.readyState == "live":
            if self._packets:
                packet = self._packets.popleft()[1]
                self.time.sent(packet.pts or 0, time.monotonic())
                return packet
            self._arrived.clear()
            await self._arrived.wait()
        raise MediaStreamError

    def push(self, packet: AudioPacket, now_s: float) -> None:
        """From the session's sound; returns at once."""
        while self._packets and (
            now_s - self._packets[0][0] > SINK_S or len(self._packets) >= SINK_PACKETS
        ):
            self._packets.popleft()
            self.skipped += 1
        self._packets.append((now_s, packet))
        self._arrived.set()

    def stop(self) -> None:
        super().stop()
        self._sound.detach(self)
        self._packets.clear()
        self._arrived.set()
