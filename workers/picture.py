"""A stranger's picture file, judged before it is decoded, and turned into bare pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from PIL import Image

from workers.errors import PortraitRefused

MOST_BYTES = 8 * 1024 * 1024
MOST_SIDE = 4096
KEPT_SIDE = 1024  # a picture is scaled down to it
SIDES = range(16, 8193)  # of what a model may be given

_FORMATS = ("PNG", "JPEG", "WEBP")
# A JPEG of thousands of empty scans decodes for minutes; encoders write about ten.
_MOST_SCANS = 100
_SCAN = b"\xff\xda"
_ORIENTATION = 0x0112  # Exif 2.32, section 4.6.4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")


class NoPicture(PortraitRefused):
    """The bytes are no PNG, JPEG or WebP."""


@dataclass(frozen=True, slots=True)
class Picture:
    """RGB or RGBA, uint8, (height, width, channels) without padding."""

    width: int
    height: int
    pixels: bytes = field(repr=False)
    channels: int = 3


def format_of(data: bytes) -> str | None:
    """PNG, JPEG or WEBP, by the file's first bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def read_picture(data: bytes, side: int = KEPT_SIDE) -> Picture:
    """The file's picture (an animation's first), upright, `side` px at most, without metadata.

    Raises NoPicture for what is of another kind, PortraitRefused for what is too large, too small
    or broken. Takes up to a second: not for an event loop.
    """
    image = _open(data)
    try:
        with image:
            image.draft("RGB", (side, side))  # a JPEG is decoded small at once
            orientation = _orientation_of(image)
            pixels = _in_eight_bits(image)
            pixels = _scaled(pixels, side)
    except Exception as error:  # whatever a broken file makes the decoder stumble over
        raise PortraitRefused(
            f"the picture cannot be decoded ({_one_line(error)}): save it anew, as PNG or JPEG"
        ) from error
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    if min(pixels.size) < SIDES.start:
        raise PortraitRefused(
            f"the picture is too narrow: {SIDES.start} px a side at least, "
            f"once it is scaled to {side}"
        )
    return Picture(*pixels.size, pixels.tobytes(), len(pixels.getbands()))


def write_webp(picture: Picture) -> bytes:
    """As a file for a page, without alpha: what lies beneath shows whole."""
    mode = "RGB" if picture.channels == 3 else "RGBA"
    image = Image.frombytes(mode, (picture.width, picture.height), picture.pixels)
    file = io.BytesIO()
    image.convert("RGB").save(file, "WEBP", quality=86, method=4)
    return file.getvalue()


def _open(data: bytes) -> Image.Image:
    """With its header read and no pixel decoded."""
    kind = format_of(data)
    if kind is None:
        raise NoPicture("this is no PNG, JPEG or WebP picture: send one of these")
    if kind == "WEBP":
        _check_size(*_webp_size(data))  # Pillow's decoder makes room for it at once
    if kind == "JPEG" and data.count(_SCAN) > _MOST_SCANS:
        raise PortraitRefused("the picture has too many scans: save it anew")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise _too_large() from None
    except Exception as error:  # as above
        raise PortraitRefused(
            f"the picture cannot be read ({_one_line(error)}): save it anew, as PNG or JPEG"
        ) from error
    _check_size(*image.size)
    return image


def _webp_size(data: bytes) -> tuple[int, int]:
    """RFC 9649, sections 2.5 to 2.7."""

    def number(start: int, end: int) -> int:
        return int.from_bytes(data[start:end], "little")

    match data[12:16]:
        case b"VP8X":
            return number(24, 27) + 1, number(27, 30) + 1
        case b"VP8L":
            bits = number(21, 25)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF
    raise PortraitRefused("the picture cannot be read (no WebP image in it): save it anew, as PNG")


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MOST_SIDE:
        raise _too_large()


def _too_large() -> PortraitRefused:
    return PortraitRefused(f"the picture is over {MOST_SIDE} px a side: send a smaller one")


def _orientation_of(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata is none: the picture itself may be whole
        return 1


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """A greyscale of 16 bits would be cut off, not scaled."""
    if image.mode not in _DEEP:
        return image
    return image.point(lambda value: value * (1 / 256)).convert("L")


def _scaled(image: Image.Image, side: int) -> Image.Image:
    """RGB or RGBA. Not as RGBA at once: Pillow then forgets what lies beneath the transparent,
    which is a shipped portrait's background."""

    def fitted(image: Image.Image) -> Image.Image:
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        return image

    if not image.has_transparency_data:
        return fitted(image.convert("RGB"))
    whole = image.convert("RGBA")
    alpha, colours = fitted(whole.getchannel("A")), fitted(whole.convert("RGB"))
    colours.putalpha(alpha)
    return colours


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
