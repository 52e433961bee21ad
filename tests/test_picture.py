"""workers.picture: a stranger's file becomes pixels, or is refused before it costs anything."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from workers.errors import PortraitRefused
from workers.picture import KEPT_SIDE, NoPicture, Picture, read_picture, write_webp

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Red, green, blue and white, from the top left clockwise."""
    image = Image.new("RGB", size, RED)
    width, height = size
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (width // 2, height // 2, width, height))
    image.paste(WHITE, (0, height // 2, width // 2, height))
    return image


def seen_corners(picture: Picture) -> list[tuple[int, ...]]:
    pixels = pixels_of(picture)
    h, w = pixels.shape[:2]
    places = [(h // 4, w // 4), (h // 4, -w // 4), (-h // 4, -w // 4), (-h // 4, w // 4)]
    return [tuple(int(round(float(v) / 255) * 255) for v in pixels[place][:3]) for place in places]


def pixels_of(picture: Picture) -> np.ndarray:
    shape = (picture.height, picture.width, picture.channels)
    return np.frombuffer(picture.pixels, np.uint8).reshape(shape)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_each_kind_is_read(kind: str) -> None:
    picture = read_picture(file_of(corners(), kind))
    assert (picture.width, picture.height, picture.channels) == (48, 32, 3)
    assert seen_corners(picture) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_turned_upright(kind: str, orientation: int) -> None:
    laid = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = corners() if orientation == 1 else corners().transpose(laid[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(file_of(image, kind, exif=exif))
    assert (picture.width, picture.height) == (48, 32)
    assert seen_corners(picture) == [RED, GREEN, BLUE, WHITE]


def test_broken_metadata_is_as_good_as_none() -> None:
    data = file_of(corners(), "JPEG", exif=b"Exif\x00\x00II*\x00" + b"\xff" * 40)
    assert seen_corners(read_picture(data)) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_large_picture_is_scaled_down_and_keeps_its_shape(kind: str) -> None:
    picture = read_picture(file_of(corners((3000, 1500)), kind))
    assert (picture.width, picture.height) == (KEPT_SIDE, KEPT_SIDE // 2)
    assert seen_corners(picture) == [RED, GREEN, BLUE, WHITE]


def test_alpha_is_kept_where_there_is_one() -> None:
    image = corners().convert("RGBA")
    image.putalpha(100)
    picture = read_picture(file_of(image))
    assert picture.channels == 4 and set(pixels_of(picture)[..., 3].flat) == {100}
    large = corners((3000, 2000))
    large.putalpha(0)
    small = read_picture(file_of(large))
    assert seen_corners(small) == [RED, GREEN, BLUE, WHITE], "what is beneath stays"
    palette = corners().quantize(8)
    picture = read_picture(file_of(palette, transparency=palette.getpixel((0, 0))))
    assert picture.channels == 4 and pixels_of(picture)[0, 0, 3] == 0
    assert read_picture(write_webp(picture)).channels == 3


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (32, 32), 200),
        Image.new("1", (32, 32), 1),
        Image.new("LA", (32, 32), (200, 255)),
        Image.fromarray(np.full((32, 32), 200 * 256, np.uint16)),
    ],
    ids=["grey", "black and white", "grey and alpha", "16 bits"],
)
def test_greys_become_colours(image: Image.Image) -> None:
    grey = pixels_of(read_picture(file_of(image)))[16, 16, :3]
    assert grey.min() == grey.max() and grey[0] in (200, 255)


def test_cmyk_becomes_rgb() -> None:
    data = file_of(corners().convert("CMYK"), "JPEG")
    assert seen_corners(read_picture(data))[0] == RED


def test_of_an_animation_the_first_picture_is_taken() -> None:
    later = [Image.new("RGB", (48, 32), BLUE)] * 3
    for kind in ("PNG", "WEBP"):
        data = file_of(corners(), kind, save_all=True, append_images=later)
        assert seen_corners(read_picture(data)) == [RED, GREEN, BLUE, WHITE]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """So many pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    for key in range(70):
        info.add_text(f"k{key}", "\x00" * 1_000_000, zip=True)
    return file_of(corners(), pnginfo=info)


def webp_of(width: int, height: int) -> bytes:
    body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    payload = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + body
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


def jpeg_of_many_scans() -> bytes:
    data = file_of(corners(), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * 400 + data[-2:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: png_bomb(60_000, 60_000), "over 4096 px"),
        (lambda: png_bomb(4097, 16), "over 4096 px"),
        (lambda: png_bomb(4096, 4096), "cannot be decoded"),
        (lambda: webp_of(16_000, 16_000), "over 4096 px"),
        (text_bomb, "cannot be"),
        (jpeg_of_many_scans, "too many scans"),
        (lambda: file_of(Image.new("RGB", (4000, 40))), "too narrow"),
        (lambda: file_of(Image.new("RGB", (8, 8))), "too narrow"),
        (lambda: file_of(corners())[:60], "cannot be"),
        (lambda: file_of(corners(), "JPEG")[:200], "cannot be"),
        (lambda: file_of(corners(), "WEBP")[:40], "cannot be"),
        (lambda: b"RIFF\x00\x00\x00\x00WEBP", "cannot be read"),
    ],
    ids=[
        "a PNG bomb", "wide", "not whole", "a WebP bomb", "a text bomb", "scans", "narrow", "small",
        "a cut PNG", "a cut JPEG", "a cut WebP", "no WebP",
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(data: Callable[[], bytes], says: str) -> None:
    with pytest.raises(PortraitRefused, match=says) as refused:
        read_picture(data())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"<svg/>", b"BM" + bytes(60), b"\x00\x00\x00\x18ftypheic"]
)
def test_other_kinds_are_no_picture(data: bytes) -> None:
    with pytest.raises(NoPicture, match="PNG, JPEG or WebP"):
        read_picture(data)


def test_no_broken_file_raises_anything_else() -> None:
    random = np.random.default_rng(3)
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = file_of(corners(), kind)
        for _ in range(120):
            data = bytearray(whole)
            for at in random.integers(12, len(data), 6):
                data[at] = random.integers(256)
            try:
                read_picture(bytes(data))
            except PortraitRefused as refused:
                assert str(refused)
