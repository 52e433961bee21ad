"""workers.swscale: any camera picture into a slot, in one pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from workers.errors import SourceError
from workers.geometry import Geometry
from workers.swscale import SWS_BILINEAR, Conversion, Cut, Fit, Picture, Planar, Scaler, centred

Pixels = NDArray[np.uint8]


def noise(width: int, height: int, pixel_format: str, seed: int = 0) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pixel_format)
    random = np.random.default_rng(seed)
    for plane in frame.planes:
        plane.update(random.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    return frame


def flat(width: int, height: int, pixel_format: str, *values: int) -> av.VideoFrame:
    """Every plane filled with its value."""
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame


def picture(rgb: Pixels, pixel_format: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format=pixel_format, dst_colorspace="ITU601", dst_color_range="MPEG"
    )


def slot_of(geometry: Geometry) -> Pixels:
    return np.full((geometry.rows, geometry.width), 7, np.uint8)


def scaled(frame: av.VideoFrame, geometry: Geometry, fit: Fit = Fit.COVER) -> Pixels:
    slot = slot_of(geometry)
    Scaler(geometry, fit).scale(frame, slot)
    return slot


def planes(slot: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    width = slot.shape[1]
    height = slot.shape[0] * 2 // 3
    chroma = slot[height:].reshape(2, height // 2, width // 2)
    return slot[:height], chroma[0], chroma[1]


def close_to(slot: Pixels, *values: int, within: int = 1) -> bool:
    return all(
        np.abs(plane.astype(int) - value).max() <= within
        for plane, value in zip(planes(slot), values, strict=True)
    )


def test_a_frame_of_the_very_size_and_format_is_copied_as_it_is() -> None:
    frame = noise(50, 34, "yuv420p")
    slot = scaled(frame, Geometry(50, 34))
    assert (slot == frame.to_ndarray()).all()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "yuv422p", "rgb24"])
@pytest.mark.parametrize("source", [(640, 480), (50, 40), (360, 640), (641, 479)])
def test_no_byte_beside_the_slot_is_touched_at_any_width(
    pixel_format: str, source: tuple[int, int]
) -> None:
    frame = noise(*source, pixel_format)
    for width in (*range(16, 76, 2), 100, 130):
        geometry = Geometry(width, 36)
        memory = np.full(256 + geometry.frame_bytes + 256, 7, np.uint8)
        slot = memory[256:-256].reshape(geometry.rows, geometry.width)
        for fit in Fit:
            Scaler(geometry, fit).scale(frame, slot)
            assert (memory[:256] == 7).all() and (memory[-256:] == 7).all(), (width, fit)


@pytest.mark.parametrize(
    "pixel_format",
    [
        *("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv420p10le", "nv12", "nv21"),
        *("yuyv422", "uyvy422", "rgb24", "bgr0"),
    ],
)
def test_every_ordinary_format_gives_the_same_colours(pixel_format: str) -> None:
    rgb = np.empty((60, 200, 3), np.uint8)
    rgb[:, :50] = (255, 255, 0)  # cut off
    rgb[:, 50:] = (200, 40, 90)
    rgb[:, 150:] = (255, 255, 0)  # cut off
    frame = picture(rgb, pixel_format)
    assert close_to(scaled(frame, Geometry(32, 32)), 96, 126, 195, within=2)


def test_full_range_becomes_limited_also_where_nothing_is_scaled() -> None:
    for size in (64, 32):
        slot = scaled(flat(64, 64, "yuvj420p", 255, 128, 200), Geometry(size, size))
        assert close_to(slot, 235, 128, 191)
        tagged = flat(64, 64, "yuv420p", 255, 128, 200)
        tagged.color_range = 2
        assert close_to(scaled(tagged, Geometry(size, size)), 235, 128, 191)
        untagged = flat(64, 64, "yuv420p", 235, 128, 200)
        assert close_to(scaled(untagged, Geometry(size, size)), 235, 128, 200, within=0)


def test_bt709_becomes_bt601() -> None:
    red = flat(64, 64, "yuv420p", 63, 102, 240)
    red.colorspace = 1
    for size in (64, 32):
        assert close_to(scaled(red, Geometry(size, size)), 81, 90, 240)


def test_grey_is_of_full_range_unless_it_says_otherwise() -> None:
    grey = flat(40, 40, "gray", 255)
    assert close_to(scaled(grey, Geometry(16, 16)), 235, 128, 128)
    grey.color_range = 1
    assert close_to(scaled(grey, Geometry(16, 16)), 255, 128, 128)


def test_cover_keeps_the_middle() -> None:
    rgb = np.zeros((100, 300, 3), np.uint8)
    rgb[:, 100:200] = 255
    luma, _, _ = planes(scaled(picture(rgb), Geometry(64, 64), Fit.COVER))
    assert luma.min() > 225


def test_cover_of_a_palette_keeps_its_colours() -> None:
    rgb = np.zeros((32, 96, 3), np.uint8)
    rgb[:, 32:64] = (255, 0, 0)
    source = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="rgb8")
    indices = np.zeros((32, 96), np.uint8)
    indices[:, 32:64] = 3
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255
    palette[3] = (255, 255, 0, 0)  # A, R, G, B
    frame = av.VideoFrame.from_ndarray((indices, palette), format="pal8")
    for one in (source, frame):
        y, _, v = planes(scaled(one, Geometry(32, 32)))
        assert abs(int(y[16, 16]) - 81) < 6 and v[8, 8] > 225


def test_contain_shows_it_whole_between_black_bars() -> None:
    slot = scaled(flat(300, 100, "yuv420p", 200, 90, 160), Geometry(96, 96), Fit.CONTAIN)
    luma, blue, red = planes(slot)
    assert (luma[:32] == 16).all() and (luma[64:] == 16).all()
    assert (blue[:16] == 128).all() and (red[48:] == 128).all()
    assert (luma[32:64] == 200).all() and (blue[16:32] == 90).all() and (red[16:32] == 160).all()


def test_a_tall_picture_is_contained_between_bars_left_and_right() -> None:
    luma, blue, _ = planes(scaled(flat(100, 300, "nv12", 200, 90), Geometry(96, 96), Fit.CONTAIN))
    assert (luma[:, :32] == 16).all() and (luma[:, 64:] == 16).all()
    assert (luma[:, 32:64] == 200).all() and (blue[:, 16:32] == 90).all()


def test_what_an_earlier_frame_left_in_the_slot_never_shows() -> None:
    scaler, slot = Scaler(Geometry(64, 64), Fit.CONTAIN), slot_of(Geometry(64, 64))
    scaler.scale(flat(64, 64, "yuv420p", 235, 90, 90), slot)
    scaler.scale(flat(128, 32, "yuv420p", 16, 128, 128), slot)
    assert close_to(slot, 16, 128, 128, within=0)


def test_a_camera_may_change_its_picture_at_any_frame() -> None:
    scaler, slot = Scaler(Geometry(64, 64), Fit.COVER), slot_of(Geometry(64, 64))
    for n, (width, height) in enumerate([(640, 480), (360, 640), (640, 480), (64, 64), (2, 2)]):
        scaler.scale(flat(width, height, "yuv420p", 40 + n, 100 + n, 150 + n), slot)
        assert close_to(slot, 40 + n, 100 + n, 150 + n), (width, height)
    scaler.close()


def test_the_cut_has_the_wanted_shape_and_lies_on_whole_chroma_samples() -> None:
    assert centred(640, 480, Geometry(256, 256), (2, 2)) == Cut(80, 0, 480, 480)
    assert centred(360, 640, Geometry(256, 256), (2, 2)) == Cut(0, 140, 360, 360)
    assert centred(512, 512, Geometry(64, 64), (2, 2)) == Cut(0, 0, 512, 512)
    assert centred(1001, 7, Geometry(64, 64), (4, 2)) == Cut(496, 0, 8, 7)
    for width in range(2, 60):
        cut = centred(width, 33, Geometry(48, 32), (2, 2))
        assert cut.x % 2 == cut.y % 2 == 0
        assert cut.x + cut.width <= width and cut.y + cut.height <= 33


def test_shrinking_a_lot_looks_at_every_pixel() -> None:
    rgb = np.zeros((512, 512, 3), np.uint8)
    rgb[::2] = 255  # every other line white
    luma, _, _ = planes(scaled(picture(rgb), Geometry(32, 32)))
    assert np.abs(luma.astype(int) - 126).max() <= 2


@pytest.mark.parametrize("size", [(16, 18), (18, 16), (34, 20), (256, 256)])
def test_a_slot_comes_back_from_rgb_bit_for_bit(size: tuple[int, int]) -> None:
    geometry = Geometry(*size)
    frame = noise(geometry.width, geometry.height, "yuv420p")
    # Nothing that RGB cannot hold: luma of 90 to 153, chroma near grey.
    slot = frame.to_ndarray() // 4 + np.uint8(90)
    slot[geometry.height :] = slot[geometry.height :] // 4 + np.uint8(100)
    planar, back = Planar(geometry), slot_of(geometry)
    floats = np.zeros((3, geometry.height, geometry.width), np.float32)
    planar.to_rgb(slot.ctypes.data, floats.ctypes.data)
    assert floats.std() > 0.05 and floats.min() > 0.1 and floats.max() < 0.9
    planar.to_i420(floats.ctypes.data, back.ctypes.data)
    assert (back == slot).all()
    planar.close()


def test_a_format_that_cannot_be_read_is_refused_in_words() -> None:
    with pytest.raises(SourceError, match="64x64 vaapi cannot be scaled"):
        Conversion(Picture(64, 64, "vaapi"), Picture(32, 32, "yuv420p"), SWS_BILINEAR)


def test_scalers_that_nobody_closes_leave_nothing_behind() -> None:
    def rss_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    slot, frame = slot_of(Geometry(64, 64)), flat(640, 480, "yuv420p", 1, 2, 3)
    for n in range(600):
        if n == 100:
            before = rss_bytes()
        Scaler(Geometry(64, 64), Fit.COVER).scale(frame, slot)
    assert rss_bytes() - before < 2e6  # a context alone holds over 100 kB


def in_a_process_of_its_own(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_importing_it_loads_neither_torch_nor_av() -> None:
    code = "import sys, workers.swscale; print({'torch', 'av'} & set(sys.modules))"
    assert in_a_process_of_its_own(code).strip() == "set()"


def test_without_pyav_it_says_so() -> None:
    code = """
import sys
sys.modules["av"] = None
from workers.geometry import Geometry
from workers.swscale import Fit, NoSwscale, Scaler
try:
    Scaler(Geometry(64, 64), Fit.COVER)
except NoSwscale as error:
    print(error)
"""
    assert "install av" in in_a_process_of_its_own(code)
