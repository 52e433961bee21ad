"""The two video codecs, set for live pictures."""

from __future__ import annotations

import os
from enum import Enum
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from numpy.typing import NDArray

from stream.bitrate import rebuild_is_due
from stream.timestamps import WIRE_HZ, WIRE_TIME_BASE
from workers.geometry import Geometry

_BITS_PER_PIXEL = 0.15  # of each frame: 512x512 at 30 frames/s is 1.2 Mbit/s
_LEAST_BIT_RATE, _MOST_BIT_RATE = 300_000, 6_000_000
_GOP_FRAMES = 600  # keyframes are made on request: a periodic one is a burst that nobody asked for
_SMALL = 512 * 512  # pixels up to which a few cores afford the better preset
_FEW_CORES = 4
_SMPTE170M = 6  # ITU-T H.273: BT.601's primaries, transfer and matrix, of 525 lines
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG


class Codec(Enum):
    """By its name in SDP."""

    H264 = "H264"
    VP8 = "VP8"


class VideoEncoder:
    """I420 frames of one geometry in, packets out, each at once.

    Opens its codec at the first frame. One thread at a time.
    """

    def __init__(
        self, codec: Codec, geometry: Geometry, fps: int = 30, bit_rate: int | None = None
    ) -> None:
        """fps: what the rate control reckons with; the frames may come otherwise.

        bit_rate: None: by size and rate.
        """
        self._codec = codec
        self._geometry = geometry
        self._fps = fps
        self._bit_rate = bit_rate or bit_rate_for(geometry, fps)
        self._ceiling = 0  # bit/s: what the open codec can rise to
        self._opened_pts = 0
        self._context: VideoCodecContext | None = None
        self.bit_rate = self._bit_rate  # what is wanted, from whichever thread; soon obeyed

    def encode(
        self, pixels: NDArray[np.uint8], pts: int, keyframe: bool
    ) -> list[av.Packet[av.VideoStream]]:
        """pixels: (H * 3 // 2, W) uint8, read in place and not kept. pts: 90 kHz, rising."""
        context = self._following(pts)
        frame = av.VideoFrame.from_numpy_buffer(pixels, "yuv420p")
        frame.pts = pts
        frame.time_base = WIRE_TIME_BASE
        frame.duration = WIRE_HZ // self._fps
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = context.encode(frame)
        for packet in packets:
            packet.time_base = WIRE_TIME_BASE
        return packets

    def _following(self, pts: int) -> VideoCodecContext:
        """The open codec, at the wanted rate where it can follow; seldom a new one."""
        wanted, context = self.bit_rate, self._context
        if context is not None and wanted != self._bit_rate:
            if self._codec is Codec.H264:  # without a keyframe
                context.bit_rate = self._bit_rate = min(wanted, self._ceiling)
            running = self._ceiling if self._codec is Codec.H264 else self._bit_rate
            too_low = self._codec is Codec.VP8 or wanted > running
            if too_low and rebuild_is_due(running, wanted, (pts - self._opened_pts) / WIRE_HZ):
                context = None
        if context is None:
            self._bit_rate, self._opened_pts = wanted, pts
            self._ceiling = self._ceiling_for(wanted)
            context = self._context = self._open()
            if self._codec is Codec.H264:
                context.open()
                context.bit_rate = wanted
        return context

    def _ceiling_for(self, bit_rate: int) -> int:
        """Room to rise without a rebuild, yet bursts that a slow network can take.

        x264 is opened at its maxrate: so it follows each rate below within a second or two. Opened
        lower it keeps to its first rate, and libvpx always does.
        """
        if self._codec is Codec.VP8:
            return bit_rate
        return max(bit_rate, min(2 * bit_rate, bit_rate_for(self._geometry, self._fps)))

    def _open(self) -> VideoCodecContext:
        match self._codec:
            case Codec.H264:
                name, options = "libx264", self._h264_options()
            case Codec.VP8:
                name, options = "libvpx", self._vp8_options()
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = self._geometry.width, self._geometry.height
        context.pix_fmt = "yuv420p"
        context.time_base = WIRE_TIME_BASE
        context.framerate = Fraction(self._fps)
        context.bit_rate = self._ceiling
        context.gop_size = _GOP_FRAMES
        context.max_b_frames = 0
        context.thread_count = 1
        context.color_range = _LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = _SMPTE170M
        context.options = options
        if self._codec is Codec.H264:
            context.profile = "Baseline"
        else:
            context.qmin, context.qmax = 2, 56
        return context

    def _h264_options(self) -> dict[str, str]:
        large = self._geometry.width * self._geometry.height > _SMALL
        few = len(os.sched_getaffinity(0)) <= _FEW_CORES
        return {
            "preset": "ultrafast" if large and few else "superfast",
            "tune": "zerolatency",
            "forced-idr": "1",
            "sc_threshold": "0",  # a cut is no reason for a burst either
            # A sixth of the encoder's time (1.25 to 1.04 ms at 512x512), and no better for it: off,
            # PSNR is 0.9 dB higher and SSIM 0.001 lower. Half-pixel search stays: -5 dB without.
            "aq-mode": "0",
            # With these x264 keeps a burst within a quarter of a second of the rate.
            "maxrate": str(self._ceiling),
            "bufsize": str(self._ceiling // 4),
        }

    def _vp8_options(self) -> dict[str, str]:
        return {
            "deadline": "realtime",
            "cpu-used": "-12",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "noise-sensitivity": "0",
            "static-thresh": "1",
            # minrate = maxrate = bit_rate is libvpx's constant bit rate.
            "minrate": str(self._bit_rate),
            "maxrate": str(self._bit_rate),
            "bufsize": str(self._bit_rate),
            "undershoot-pct": "100",
            "overshoot-pct": "15",
        }


def bit_rate_for(geometry: Geometry, fps: int) -> int:
    """bit/s for a live picture of this size."""
    asked = geometry.width * geometry.height * fps * _BITS_PER_PIXEL
    return int(min(max(asked, _LEAST_BIT_RATE), _MOST_BIT_RATE))
