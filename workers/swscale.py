"""libswscale with a destination of our choice: the very library that PyAV has loaded.

PyAV's own `reformat` returns a frame of its own, which would then be copied; `sws_scale` writes
where it is told. Calls by ctypes let go of the GIL.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workers.errors import OmokageError, SourceError
from workers.geometry import Geometry

if TYPE_CHECKING:
    import av

# libswscale/swscale.h; AVColorSpace and AVColorRange of libavutil/pixfmt.h
SWS_BILINEAR = 2
SWS_POINT = 0x10
SWS_AREA = 0x20
SWS_ACCURATE_RND = 0x40000
BT601 = 6  # AVCOL_SPC_SMPTE170M
LIMITED_RANGE, FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG

# From here on the box filter is as good as the triangle, and reads each pixel once.
SHRINKS_A_LOT = 2.0

FLOAT_RGB = "gbrpf32le" if sys.byteorder == "little" else "gbrpf32be"


class NoSwscale(OmokageError):
    """PyAV is missing, or has loaded no libswscale that can be found."""


class Fit(Enum):
    """How a picture of another shape meets the geometry."""

    COVER = "cover"  # fills it; what sticks out is cut off
    CONTAIN = "contain"  # lies in it whole, between black bars


@dataclass(frozen=True, slots=True)
class Picture:
    """What libswscale must know of one side of a conversion."""

    width: int
    height: int
    pixel_format: str
    colour_space: int = BT601
    is_full_range: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """A rectangle of a picture, its corner on a whole chroma sample."""

    x: int
    y: int
    width: int
    height: int


def centred(width: int, height: int, shape: Geometry | Picture, align: tuple[int, int]) -> Cut:
    """The largest rectangle with `shape`'s proportions in the middle of width × height."""
    cut_width, cut_height = width, height
    if width * shape.height > height * shape.width:
        cut_width = max(2, _nearest_even(height * shape.width / shape.height))
    elif width * shape.height < height * shape.width:
        cut_height = max(2, _nearest_even(width * shape.height / shape.width))
    cut_width, cut_height = min(cut_width, width), min(cut_height, height)
    x = (width - cut_width) // 2 // align[0] * align[0]
    y = (height - cut_height) // 2 // align[1] * align[1]
    return Cut(x, y, cut_width, cut_height)


class Scaler:
    """Camera frames of any size and format into I420 slots of one geometry.

    For one thread at a time. Its context is made anew when the camera changes its picture.
    Raises NoSwscale where there is no libswscale to call.
    """

    def __init__(self, geometry: Geometry, fit: Fit) -> None:
        _library()
        self._geometry = geometry
        self._fit = fit
        self._from: Picture | None = None
        self._route: _Route | None = None

    def scale(self, frame: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
        """Writes the frame into slot (H * 3 // 2, W), I420, BT.601 limited range, in one pass.

        A frame of the very size and format is copied as it is. A picture without a colour space
        is taken for BT.601. Raises SourceError for a format that libswscale does not read.
        """
        geometry = self._geometry
        assert slot.shape == (geometry.rows, geometry.width) and slot.dtype == np.uint8
        assert slot.flags.c_contiguous
        route = self._route_of(_picture(frame))
        if route.target != Cut(0, 0, geometry.width, geometry.height):
            slot[: geometry.height] = 16
            slot[geometry.height :] = 128
        planes = frame.planes
        strides = [plane.line_size for plane in planes]
        starts = [
            plane.buffer_ptr + x_bytes + rows * plane.line_size
            for plane, (x_bytes, rows) in zip(planes, route.offsets, strict=False)
        ]
        inside = _i420_planes(slot.ctypes.data, geometry, route.target.x, route.target.y)
        route.conversion.run(starts, strides, *inside)

    def close(self) -> None:
        if self._route is not None:
            self._route.conversion.close()
        self._from = self._route = None

    def _route_of(self, picture: Picture) -> _Route:
        if self._route is None or self._from != picture:
            self.close()
            self._route = _plan(picture, self._geometry, self._fit)
            self._from = picture
        return self._route


class Planar:
    """I420 slots to planar RGB floats, and back, at one geometry; for one thread at a time.

    A chroma sample is repeated over its four pixels on the way up and is their mean on the way
    down: what a model leaves alone comes back bit for bit.
    """

    def __init__(self, geometry: Geometry) -> None:
        i420 = Picture(geometry.width, geometry.height, "yuv420p")
        rgb = Picture(geometry.width, geometry.height, FLOAT_RGB, is_full_range=True)
        self._geometry = geometry
        # Without the accurate rounding libswscale takes a road for yuv420p to RGB that is off
        # by 3, and leaves the last columns out where the width is no multiple of 8.
        self._up = Conversion(i420, rgb, SWS_POINT | SWS_ACCURATE_RND)
        self._down = Conversion(rgb, i420, SWS_AREA)

    def to_rgb(self, i420: int, rgb: int) -> None:
        """From the I420 frame at the address to (3, H, W) float32 in [0, 1] at the other."""
        self._up.run(*_i420_planes(i420, self._geometry), *self._rgb_planes(rgb))

    def to_i420(self, rgb: int, i420: int) -> None:
        """From (3, H, W) float32 at the address, clamped to [0, 1], to I420 at the other."""
        self._down.run(*self._rgb_planes(rgb), *_i420_planes(i420, self._geometry))

    def close(self) -> None:
        self._up.close()
        self._down.close()

    def _rgb_planes(self, address: int) -> tuple[list[int], list[int]]:
        plane = 4 * self._geometry.width * self._geometry.height
        # libswscale counts the planes G, B, R; memory holds R, G, B.
        return [address + plane, address + 2 * plane, address], [4 * self._geometry.width] * 3


class Conversion:
    """One libswscale context: from one kind of picture to another."""

    def __init__(self, source: Picture, target: Picture, flags: int) -> None:
        swscale = _library()
        self._height = source.height
        self._context = swscale.sws_alloc_context()
        # Also freed when nobody closes it: a camera's thread may end anywhere.
        self.close = weakref.finalize(self, swscale.sws_freeContext, self._context)
        # Not sws_getContext: it chooses its road before it can be told the ranges, and then
        # copies a full-range picture of the same size unconverted.
        for name, value in (
            ("srcw", source.width),
            ("srch", source.height),
            ("src_format", _pixel_format(source.pixel_format)),
            ("src_range", source.is_full_range),
            ("dstw", target.width),
            ("dsth", target.height),
            ("dst_format", _pixel_format(target.pixel_format)),
            ("dst_range", target.is_full_range),
            ("sws_flags", flags),
        ):
            swscale.av_opt_set_int(self._context, name.encode(), int(value), 0)
        if swscale.sws_init_context(self._context, None, None) < 0:
            self.close()
            raise SourceError(
                f"pictures of {source.width}x{source.height} {source.pixel_format} cannot be "
                f"scaled to {target.width}x{target.height}: use another pixel format"
            )
        neutral = 1 << 16
        swscale.sws_setColorspaceDetails(
            self._context,
            swscale.sws_getCoefficients(source.colour_space),
            source.is_full_range,
            swscale.sws_getCoefficients(target.colour_space),
            target.is_full_range,
            0,
            neutral,
            neutral,
        )

    def run(
        self,
        sources: Sequence[int],
        source_strides: Sequence[int],
        targets: Sequence[int],
        target_strides: Sequence[int],
    ) -> None:
        """Addresses and strides in bytes, one a plane, four at most."""
        assert self.close.alive
        written = _library().sws_scale(
            self._context,
            _Pointers(*sources),
            _Strides(*source_strides),
            0,
            self._height,
            _Pointers(*targets),
            _Strides(*target_strides),
        )
        if written < 0:
            raise SourceError(f"libswscale gave up on a picture, error {written}")


@dataclass(frozen=True, slots=True)
class _Route:
    """How a kind of picture reaches the slot: `offsets` are (bytes, rows) into each plane."""

    conversion: Conversion
    offsets: tuple[tuple[int, int], ...]
    target: Cut


def _plan(picture: Picture, geometry: Geometry, fit: Fit) -> _Route:
    swscale = _library()
    pixel_format = _pixel_format(picture.pixel_format)
    sub_x, sub_y = ctypes.c_int(), ctypes.c_int()
    swscale.av_pix_fmt_get_chroma_sub_sample(pixel_format, ctypes.byref(sub_x), ctypes.byref(sub_y))
    source = Cut(0, 0, picture.width, picture.height)
    target = Cut(0, 0, geometry.width, geometry.height)
    match fit:
        case Fit.COVER:
            align = max(2, 1 << sub_x.value), max(2, 1 << sub_y.value)
            source = centred(picture.width, picture.height, geometry, align)
        case Fit.CONTAIN:
            target = centred(geometry.width, geometry.height, picture, (2, 2))

    def offset(plane: int) -> tuple[int, int]:
        x_bytes = swscale.av_image_get_linesize(pixel_format, source.x, plane)
        if x_bytes <= 0 and plane:  # a palette, which no cut moves
            return 0, 0
        return max(0, x_bytes), source.y >> (sub_y.value if plane in (1, 2) else 0)

    shrink = max(source.width / target.width, source.height / target.height)
    conversion = Conversion(
        Picture(
            source.width,
            source.height,
            picture.pixel_format,
            picture.colour_space,
            picture.is_full_range,
        ),
        Picture(target.width, target.height, "yuv420p"),
        SWS_AREA if shrink >= SHRINKS_A_LOT else SWS_BILINEAR,
    )
    return _Route(conversion, tuple(offset(plane) for plane in range(4)), target)


def _picture(frame: av.VideoFrame) -> Picture:
    name, colour_range = frame.format.name, int(frame.color_range)
    # libswscale's own view: grey without a word is of full range, and so are the yuvj formats.
    is_full_range = (
        colour_range == FULL_RANGE
        or name.startswith("yuvj")
        or (name.startswith(("gray", "ya")) and colour_range != LIMITED_RANGE)
    )
    return Picture(
        frame.width,
        frame.height,
        name.replace("yuvj", "yuv"),
        int(frame.colorspace),
        is_full_range,
    )


def _i420_planes(
    address: int, geometry: Geometry, x: int = 0, y: int = 0
) -> tuple[list[int], list[int]]:
    """The planes' addresses and strides of the frame that begins at `address`, from (x, y) on."""
    width, luma = geometry.width, geometry.width * geometry.height
    chroma = address + luma + y // 2 * (width // 2) + x // 2
    return [address + y * width + x, chroma, chroma + luma // 4], [width, width // 2, width // 2]


def _nearest_even(value: float) -> int:
    return 2 * round(value / 2)


_Pointers = ctypes.c_void_p * 4
_Strides = ctypes.c_int * 4


def _pixel_format(name: str) -> int:
    return int(_library().av_get_pix_fmt(name.encode()))


@cache
def _library() -> ctypes.CDLL:
    """The libswscale in this process; its handle finds libavutil's functions too."""
    try:
        importlib.import_module("av.video.reformatter")
    except ImportError as error:
        raise NoSwscale(f"PyAV cannot be imported ({error}): install av") from error
    with Path("/proc/self/maps").open() as maps:
        paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "libswscale" in line}
    if not paths:
        raise NoSwscale("PyAV has loaded no libswscale: install av from its wheel")
    swscale = ctypes.CDLL(min(paths))
    pointer, number, pair = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
    for name, result, *arguments in (
        ("sws_alloc_context", pointer),
        ("sws_init_context", number, pointer, pointer, pointer),
        ("sws_freeContext", None, pointer),
        ("sws_getCoefficients", pointer, number),
        ("sws_scale", number, pointer, _Pointers, _Strides, number, number, _Pointers, _Strides),
        ("av_opt_set_int", number, pointer, ctypes.c_char_p, ctypes.c_int64, number),
        ("av_get_pix_fmt", number, ctypes.c_char_p),
        ("av_image_get_linesize", number, number, number, number),
        ("av_pix_fmt_get_chroma_sub_sample", number, number, pair, pair),
    ):
        function = getattr(swscale, name)
        function.restype, function.argtypes = result, arguments
    details = swscale.sws_setColorspaceDetails
    details.restype = number
    details.argtypes = [pointer, pointer, number, pointer, number, number, number, number]
    return swscale
