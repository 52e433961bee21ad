"""stream/nvml.py, against a library with the driver's symbols and layouts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream.nvml import Gpu, Nvml, NvmlError, Reading
from tests.fake_nvml import GPU, FakeGpu, gpu, needs_compiler

__all__ = ["gpu"]  # a fixture

pytestmark = needs_compiler


def loaded() -> Nvml:
    found = Nvml.load()
    assert found is not None
    return found


def test_without_the_library_there_is_no_driver(tmp_path: Path) -> None:
    assert Nvml.load(str(tmp_path / "absent.so")) is None


def test_a_library_that_cannot_reach_its_driver_says_so(gpu: FakeGpu) -> None:
    gpu.says(init=9)
    with pytest.raises(NvmlError, match=r"^Refused$") as raised:
        Nvml.load()
    assert raised.value.code == 9 and not raised.value.is_loss


def test_it_names_the_driver_and_its_gpus(gpu: FakeGpu) -> None:
    with loaded() as nvml:
        assert (nvml.driver(), nvml.cuda()) == ("580.65.06", (13, 0))
        assert nvml.gpus() == [Gpu("Fake GPU", GPU, 8 << 30, 6 << 30)]


def test_a_reading_holds_what_the_gpu_tells(gpu: FakeGpu) -> None:
    gpu.says(used=3 << 30, temperature=88, reasons=0x4 | 0x40, corrected=5, uncorrected=1)
    gpu.says(pid=os.getpid(), process=2 << 30)
    with loaded() as nvml:
        reading = nvml.device(GPU).read(os.getpid())
    assert reading == Reading(
        used_bytes=3 << 30,
        process_bytes=2 << 30,
        processes=2,
        temperature_c=88,
        slowdowns=("too warm (hardware)",),
        ecc_corrected=5,
        ecc_uncorrected=1,
    )


def test_what_a_gpu_does_not_tell_is_none(gpu: FakeGpu) -> None:
    with loaded() as nvml:
        reading = nvml.device(GPU).read(os.getpid())
    assert reading == Reading(used_bytes=1 << 30, temperature_c=50)


def test_an_error_is_told_once_and_none_from_before(gpu: FakeGpu) -> None:
    gpu.fails(13)
    with loaded() as nvml, nvml.device(GPU).events() as events:
        assert events.wait(0.02) is None
        gpu.fails(31)
        assert events.wait(5) == 31
        assert events.wait(0.02) is None


def test_a_lost_gpu_is_no_missing_reading(gpu: FakeGpu) -> None:
    with loaded() as nvml:
        device = nvml.device(GPU)
        gpu.says(lost=1)
        with pytest.raises(NvmlError) as raised:
            device.read(os.getpid())
    assert raised.value.is_loss


def test_another_gpus_name_is_not_known(gpu: FakeGpu) -> None:
    with loaded() as nvml, pytest.raises(NvmlError):
        nvml.device("GPU-2")
