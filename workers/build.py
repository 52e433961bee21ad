"""What torch was built for, and what it can do here: as JSON, for who must not import torch.

`python -m workers.build DEVICE` asks the device for a small sum, so that "there" means "works".
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

import torch

from workers.errors import DeviceError
from workers.worker import find_device


@dataclass(frozen=True, slots=True)
class Build:
    torch: str  # its version
    cuda: str | None  # the CUDA it was built for; None: a build for CPUs
    device: str | None  # that would serve; None: it cannot
    device_name: str | None
    trouble: str | None  # why not, in its own words


def look(device: str) -> Build:
    """`device`: as the setting writes it."""
    version, cuda = str(torch.__version__), torch.version.cuda
    try:
        found = find_device(device)
        torch.ones(8, device=found).sum().item()
        name = torch.cuda.get_device_name(found) if found.type == "cuda" else "CPU"
    except DeviceError as error:  # whose last part is the mend
        return Build(version, cuda, None, None, str(error).rpartition(": ")[0])
    except RuntimeError as error:
        return Build(version, cuda, None, None, str(error).partition("\n")[0])
    return Build(version, cuda, str(found), name, None)


if __name__ == "__main__":
    print(json.dumps(asdict(look(sys.argv[1]))))
