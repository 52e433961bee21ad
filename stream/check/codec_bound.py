"""What a session's codecs cost here: a frame decoded, scaled into a slot, and encoded again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import av
import numpy as np
from numpy.typing import NDArray

from stream.check.bound import FPS
from stream.codecs import Codec, VideoEncoder
from stream.decoder import open_decoder
from stream.timestamps import WIRE_HZ, WIRE_TIME_BASE
from workers.geometry import Geometry
from workers.swscale import Fit, Scaler

FRAMES, SETTLING = 60, 10
USABLE = 0.8  # of the cores' time: the rest is the event loop's, the network's, the system's


@dataclass(frozen=True, slots=True)
class CodecCost:
    """Of one codec at one geometry, in CPU time of one thread."""

    codec: Codec
    decode_ms: float  # scaling into the slot included
    encode_ms: float

    @property
    def sessions_a_core(self) -> float:
        """That decode and encode so at 25 frames/s, on a core that does nothing else."""
        return 1000 / FPS / (self.decode_ms + self.encode_ms)

    def sessions(self, cores: int) -> int:
        return int(USABLE * cores * self.sessions_a_core)


def cores_here() -> int:
    return len(os.sched_getaffinity(0))


def measure(codec: Codec, geometry: Geometry) -> CodecCost:
    """Medians over frames of a moving, noisy picture, as the server sets the codecs."""
    encoder, decoder = VideoEncoder(codec, geometry, FPS), open_decoder(codec.value)
    scaler, slot = Scaler(geometry, Fit.COVER), np.empty((geometry.rows, geometry.width), np.uint8)
    encode_ms, decode_ms = [], []
    try:
        for number, pixels in enumerate(_moving(geometry, FRAMES + SETTLING)):
            # A thread's own time, and both codecs run in this thread alone: what else the machine
            # does is not in it.
            began = time.thread_time_ns()
            packets = encoder.encode(pixels, number * WIRE_HZ // FPS, number == 0)
            encoded = time.thread_time_ns()
            for packet in packets:
                theirs = av.Packet(bytes(packet))
                theirs.pts, theirs.time_base = packet.pts, WIRE_TIME_BASE
                for picture in decoder.decode(theirs):
                    scaler.scale(picture, slot)
            encode_ms.append((encoded - began) / 1e6)
            decode_ms.append((time.thread_time_ns() - encoded) / 1e6)
    finally:
        scaler.close()
    return CodecCost(codec, median(decode_ms[SETTLING:]), median(encode_ms[SETTLING:]))


def _moving(geometry: Geometry, frames: int) -> Iterator[NDArray[np.uint8]]:
    """A bright disc that wanders over a textured ground, under the noise of a camera's chip."""
    height, width = geometry.height, geometry.width
    noise = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    ground = 110 + 40 * np.sin(x / 23) * np.cos(y / 31)
    for number in range(frames):
        turn = 2 * np.pi * number / frames
        across, down = width * (0.5 + 0.3 * np.cos(turn)), height * (0.5 + 0.3 * np.sin(turn))
        disc = (x - across) ** 2 + (y - down) ** 2 < (width / 6) ** 2
        luma = np.where(disc, 190, np.roll(ground, width * number // frames, 1))
        pixels = np.full((geometry.rows, width), 128, np.uint8)
        pixels[:height] = np.clip(luma + noise.normal(0, 2.5, luma.shape), 16, 235)
        yield pixels
