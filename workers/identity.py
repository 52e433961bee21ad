"""An identity on its way from the preparer to a worker: safetensors bytes in a memfd."""

from __future__ import annotations

import os

from safetensors import SafetensorError
from safetensors.torch import load, save

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
    """The tensors of such a memfd, on the CPU, in memory of their own; `fd` is closed.

    Raises ModelError when it holds anything else.
    """
    try:
        # By position: the offset belongs to every process that has a copy of the descriptor.
        data = _read_all(fd)
    finally:
        os.close(fd)
    try:
        return load(data)
    except SafetensorError as error:
        raise ModelError(f"an identity cannot be read: {error}: prepare it again") from error


def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    position = 0
    while part := os.pread(fd, 1 << 24, position):
        parts.append(part)
        position += len(part)
    return b"".join(parts)
