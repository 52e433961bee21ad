"""An identity on its way from the preparer to a worker: safetensors bytes in a memfd."""

from __future__ import annotations

import os

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from workers.errors import ModelError
from workers.models.api import Tensors


def save_identity(identity: Tensors) -> int:
    """A memfd of the tensors, which is the caller's. It can be read any number of times."""
    # Copies: safetensors refuses tensors that share memory.
    data = save({name: row.detach().cpu().contiguous().clone() for name, row in identity.items()})
    fd = os.memfd_create("identity")
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def load_identity(fd: int) -> Tensors:
    """The tensors of such a memfd, on the CPU; `fd` is closed. To be read only.

    They are the memfd's own pages: a worker copies 20 MB of them once, into its bank, and between
    two batches there is no time to copy them thrice. Raises ModelError when it holds anything
    else.
    """
    try:
        with safe_open(f"/proc/self/fd/{fd}", framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"an identity cannot be read: {error}: prepare it again") from error
    finally:
        os.close(fd)
