"""0. What this machine is."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

import numpy as np
import torch

from gpu_measures.common import nvml_here
from gpu_measures.measure import Ask, Figures, Found, Measure
from stream.nvml import NvmlError

OLDEST_TORCH = (2, 11)


def machine(ask: Ask) -> Found:
    """Versions, loading mode, PCIe, memlock, shm, MIG and MPS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    shm = os.statvfs("/dev/shm")
    here: Figures = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "memlock": [soft, hard],
        "shm_free_bytes": shm.f_bavail * shm.f_frsize,
        "module_loading": os.environ.get("CUDA_MODULE_LOADING", "the driver's default"),
        "allocator": os.environ.get("PYTORCH_ALLOC_CONF", "the default"),
        "mps": Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")).exists(),
        "cuda": None,
    }
    is_new_enough = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= OLDEST_TORCH
    if not is_new_enough:
        return Found(False, f"torch {torch.__version__} is older than 2.11: update it", here)
    if not ask.on_gpu:
        return Found(None, f"torch {torch.__version__}, and no GPU answers it", here)
    properties = torch.cuda.get_device_properties(0)
    here |= {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": properties.name,
        "device_bytes": properties.total_memory,
        "capability": [properties.major, properties.minor],
        "pcie": link_of(0),
    }
    if (nvml := nvml_here()) is not None:
        with nvml:
            here["driver"] = nvml.driver()
            try:
                here["mig"] = f"GPU-{properties.uuid}" not in {gpu.uuid for gpu in nvml.gpus()}
            except NvmlError as error:
                here["mig"] = f"not told: {error}"
    return Found(
        None, f"{properties.name}, CUDA {torch.version.cuda}, torch {torch.__version__}", here
    )


def link_of(index: int) -> dict[str, str]:
    """The PCIe link as the kernel tells it (sysfs, PCI devices)."""
    properties = torch.cuda.get_device_properties(index)
    # Not in every torch; a device 0 of bus 0 is the bridge, which tells nothing.
    domain, bus, device = (
        getattr(properties, f"pci_{part}_id", 0) for part in ("domain", "bus", "device")
    )
    folder = Path(f"/sys/bus/pci/devices/{domain:04x}:{bus:02x}:{device:02x}.0")
    told = {}
    for name in ("current_link_speed", "current_link_width", "max_link_speed"):
        file = folder / name
        told[name] = file.read_text().strip() if file.exists() else "not told"
    return told


MACHINE = Measure(machine, "all but the device")
