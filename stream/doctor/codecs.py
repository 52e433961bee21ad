"""The video codecs, each opened and tried on a few frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from stream.codecs import Codec, VideoEncoder
from stream.doctor.finding import Finding, error, ok
from stream.timestamps import WIRE_HZ
from workers.geometry import Geometry

SIZE = Geometry(256, 256)  # NVENC takes nothing much smaller
FRAMES = 5
FPS = 30
DECODERS = {Codec.H264: "h264", Codec.VP8: "vp8"}
MEND = "install PyAV's own wheels: scripts/venv does"

Packet: TypeAlias = "av.Packet[av.VideoStream]"  # a generic in its stubs alone


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the frames; `trouble` is why none or too few came out."""

    name: str
    frames: int
    trouble: str | None = None


def look() -> list[Finding]:
    found = [_software(codec) for codec in Codec]
    h264 = VideoEncoder(Codec.H264, SIZE, FPS)
    packets = [it for number in range(FRAMES) for it in _encode(h264, number)]
    encoded = _tried("h264_nvenc", lambda: _count(_nvenc()))
    decoded = _tried("h264_cuvid", lambda: _decode("h264_cuvid", packets))
    return [*found, judge_hardware("NVENC", encoded), judge_hardware("NVDEC", decoded)]


def _software(codec: Codec) -> Finding:
    encoder = VideoEncoder(codec, SIZE, FPS)

    def there_and_back() -> int:
        packets = [it for number in range(FRAMES) for it in _encode(encoder, number)]
        return _decode(DECODERS[codec], packets)

    return judge_software(codec, _tried(codec.value, there_and_back))


def judge_software(codec: Codec, trial: Trial) -> Finding:
    name = codec.value
    if trial.trouble is not None:
        return error(name, f"it does not work ({trial.trouble})", MEND)
    if trial.frames < FRAMES:
        return error(name, f"of {FRAMES} frames {trial.frames} came back", MEND)
    return ok(name, f"{trial.frames} frames encoded and decoded")


def judge_hardware(name: str, trial: Trial) -> Finding:
    """Its want is no fault: frames are encoded and decoded on the CPU."""
    if trial.trouble is None and trial.frames:
        return ok(name, f"it is here ({trial.name}); frames go through the CPU's codecs")
    reason = trial.trouble or "no frame came out"
    return ok(name, f"none here ({reason}); none is needed: frames go through the CPU's codecs")


def _tried(name: str, run: Callable[[], int]) -> Trial:
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as said:
        try:
            return Trial(name, run())
        except (av.FFmpegError, ValueError, OSError) as refused:  # ValueError: no such codec
            own = getattr(refused, "strerror", None) or str(refused) or type(refused).__name__
            # What FFmpeg said first names the library or the device that is missing.
            return Trial(name, 0, (said[0][2].strip() if said else str(own)).rstrip("."))
        finally:
            av.logging.set_level(None)


def _encode(encoder: VideoEncoder, number: int) -> list[Packet]:
    return encoder.encode(_picture(number), number * WIRE_HZ // FPS, number == 0)


def _decode(name: str, packets: Sequence[Packet]) -> int:
    """How many frames come out of it."""
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    return len(frames) + len(decoder.decode(None))


def _nvenc() -> list[Packet]:
    encoder = av.CodecContext.create("h264_nvenc", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = SIZE.width, SIZE.height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FPS), Fraction(FPS)
    packets: list[Packet] = []
    for number in range(FRAMES):
        frame = av.VideoFrame.from_numpy_buffer(_picture(number), "yuv420p")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame)
    return packets + encoder.encode(None)


def _count(packets: Sequence[Packet]) -> int:
    return len(packets)


def _picture(number: int) -> NDArray[np.uint8]:
    """(H * 3 // 2, W) uint8, I420: grey, a little brighter each time."""
    return np.full((SIZE.rows, SIZE.width), 100 + number, np.uint8)
