"""Python, torch and the driver: do they fit each other, and what the settings ask for?"""

from __future__ import annotations

import asyncio
import json
import platform
import re
import sys
from dataclasses import dataclass
from typing import Any

from stream.doctor.finding import Finding, error, ok, warning
from stream.nvml import Gpu, Nvml, NvmlError

LEAST_TORCH = (2, 11)
ASK_S = 30.0  # torch on a cold disk


@dataclass(frozen=True, slots=True)
class Driver:
    """NVIDIA's, as NVML tells; without a version it is not there, or says why it cannot work."""

    version: str | None = None
    cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Torch:
    """What `workers.build` tells; without a version it cannot be imported."""

    version: str | None = None
    cuda: str | None = None
    device: str | None = None
    device_name: str | None = None
    trouble: str | None = None

    @property
    def is_on_cuda(self) -> bool:
        return self.device is not None and self.device.startswith("cuda")


def look_at_driver() -> Driver:
    try:
        nvml = Nvml.load()
        if nvml is None:
            return Driver()
        with nvml:
            return Driver(nvml.driver(), nvml.cuda(), tuple(nvml.gpus()))
    except NvmlError as refused:
        return Driver(trouble=str(refused))


async def ask_torch(device: str) -> Torch:
    """In a process of its own: torch belongs to the workers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers.build", device,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(ASK_S):
            told, complaint = await process.communicate()
    except TimeoutError:
        return Torch(trouble=f"it did not answer within {ASK_S:.0f} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        said: dict[str, Any] = json.loads(told.decode().splitlines()[-1])  # Any: JSON
    except (ValueError, IndexError):
        lines = complaint.decode(errors="replace").strip().splitlines()
        return Torch(trouble=lines[-1] if lines else f"exit code {process.returncode}")
    return Torch(said["torch"], said["cuda"], said["device"], said["device_name"], said["trouble"])


def judge(device: str, torch: Torch, driver: Driver) -> list[Finding]:
    """`device`: the setting."""
    return [_python(), *_torch(torch), *_gpus(driver), *_device(device, torch, driver)]


def _python() -> Finding:
    return ok("python", f"{platform.python_version()}, {sys.executable}")


def _torch(torch: Torch) -> list[Finding]:
    if torch.version is None:
        return [
            error("torch", f"it cannot be used ({torch.trouble})", "install it: scripts/venv does")
        ]
    built = "for CPUs" if torch.cuda is None else f"for CUDA {torch.cuda}"
    said = f"{torch.version}, built {built}"
    if _numbers(torch.version) < LEAST_TORCH:
        least = ".".join(map(str, LEAST_TORCH))
        return [error("torch", said, f"install {least} or newer: scripts/venv does")]
    return [ok("torch", said)]


def _gpus(driver: Driver) -> list[Finding]:
    if driver.trouble is not None:
        mend = "load or update NVIDIA's driver (nvidia-smi should list the GPUs), or restart"
        return [warning("gpu", f"the driver does not work ({driver.trouble})", mend)]
    if driver.version is None:
        return [ok("gpu", "none: NVIDIA's driver is not on this machine")]
    if not driver.gpus:
        return [ok("gpu", f"none, though driver {driver.version} is here")]
    return [
        ok("gpu", f"{it.name}, {_gib(it.free_bytes)} of {_gib(it.total_bytes)} GiB free, "
           f"driver {driver.version} for CUDA {_dotted(driver.cuda)}")
        for it in driver.gpus
    ]  # fmt: skip


def _device(device: str, torch: Torch, driver: Driver) -> list[Finding]:
    if torch.version is None:
        return []
    if torch.device is None:
        said = torch.trouble or "it cannot serve"
        return [error("device", f"--device {device}: {said}", _cuda_mend(torch, driver))]
    said = f"--device {device} serves on {torch.device} ({torch.device_name})"
    if driver.gpus and not torch.is_on_cuda and device == "auto":
        return [warning("device", f"{said}, and leaves the GPU idle", _cuda_mend(torch, driver))]
    return [ok("device", said)]


def _cuda_mend(torch: Torch, driver: Driver) -> str:
    if not driver.gpus:
        return "pass --device cpu, or install a GPU and its driver"
    if torch.cuda is None:
        return "install torch's build for CUDA"
    if driver.cuda is not None and _numbers(torch.cuda)[0] > driver.cuda[0]:
        return (
            f"update the driver, which runs CUDA {_dotted(driver.cuda)} at most, "
            f"or install torch's build for it"
        )
    return "see whether nvidia-smi lists the GPU, and CUDA_VISIBLE_DEVICES does not hide it"


def _numbers(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _dotted(version: tuple[int, int] | None) -> str:
    return "of unknown version" if version is None else ".".join(map(str, version))


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f}"
