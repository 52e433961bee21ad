"""What belongs to a session and stays on the device: identity, state and controls, by lane.

Each is a tensor of `max_sessions` rows and a scratch row, born at start and only written to from
then on. A fill row reads what the last real row reads, so it computes that row once more, and
writes its state to scratch, from which nothing is read: several fill rows may write there in any
order (`index_copy_` with equal indices is undefined on CUDA) without anyone seeing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from workers.errors import ModelError
from workers.models.api import AvatarModel, Tensors

HostTensor = Callable[[tuple[int, ...], torch.dtype], Tensor]


class Banks:
    """A lane's row is its number. Everything runs in the caller's stream and inference mode."""

    def __init__(
        self,
        model: AvatarModel,
        identity: Tensors,
        state: Tensors,
        *,
        max_sessions: int,
        most: int,
        device: torch.device,
        host_tensor: HostTensor | None,
    ) -> None:
        """identity: of a session that brings none; state: the initial one. most: the largest
        batch's rows. host_tensor: None where a copy has happened when it returns."""
        self.scratch: Final = max_sessions
        self._ranges = dict(model.controls)
        self._reads_banks = model.reads_banks

        def bank(row: Tensor) -> Tensor:
            return row.to(device).expand(max_sessions + 1, *row.shape).clone()

        def batch(row: Tensor) -> Tensor:
            return torch.empty((most, *row.shape), dtype=row.dtype, device=device)

        controls = {name: torch.tensor(c.default) for name, c in self._ranges.items()}
        self.identity = {name: bank(row) for name, row in identity.items()}
        self.state = {name: bank(row) for name, row in state.items()}
        self.controls = {name: bank(row) for name, row in controls.items()}
        self._initial = {name: row.to(device).clone() for name, row in state.items()}
        gathered = {} if self._reads_banks else identity
        self._identity = {name: batch(row) for name, row in gathered.items()}
        self._state = {name: batch(row) for name, row in state.items()}
        self._controls = {name: batch(row) for name, row in controls.items()}
        self._due = {name: (str(t.dtype), tuple(t.shape)) for name, t in identity.items()}
        # Where a new identity waits for its copy to the device, so that nobody waits for it.
        self._arriving = (
            {name: host_tensor(tuple(row.shape), row.dtype) for name, row in identity.items()}
            if host_tensor is not None
            else {}
        )

    def open(self, lane: int, identity: Tensors, controls: Mapping[str, float]) -> None:
        """A new tenant: its identity ({}: the default one), the initial state, its controls.

        With an identity, it must not run before the copies of the last such one are over.
        Raises ModelError for tensors or controls that the model does not have; the lane is then
        as before.
        """
        assert 0 <= lane < self.scratch
        self._check_identity(identity)
        self._check_controls(controls)
        if identity:
            self._write_identity(lane, identity)
        else:
            for bank in self.identity.values():
                bank[lane].copy_(bank[self.scratch])
        for name, bank in self.state.items():
            bank[lane].copy_(self._initial[name])
        for name, control in self._ranges.items():
            self.controls[name][lane].fill_(controls.get(name, control.default))

    def set_identity(self, lane: int, identity: Tensors) -> None:
        """Another identity for the same tenant, whose state goes on.

        It must not run before the copies of the last such one are over. Raises ModelError as
        `open` does; the lane is then as before.
        """
        self._check_identity(identity)
        self._write_identity(lane, identity)

    def set_controls(self, lane: int, controls: Mapping[str, float]) -> None:
        """Changes those that are named. Raises ModelError for one that the model does not have."""
        self._check_controls(controls)
        for name, value in controls.items():
            self.controls[name][lane].fill_(value)

    def gather(self, rows: Tensor) -> tuple[Tensors, Tensors, Tensors]:
        """Identity, state and controls of a batch, in buffers that the next call fills anew.

        rows: (B,) int64. Where the model reads banks, the identity is the bank itself.
        """
        size = len(rows)

        def select(banks: Tensors, batches: Tensors) -> Tensors:
            return {
                name: torch.index_select(banks[name], 0, rows, out=batch[:size])
                for name, batch in batches.items()
            }

        identity = self.identity if self._reads_banks else select(self.identity, self._identity)
        return identity, select(self.state, self._state), select(self.controls, self._controls)

    def scatter(self, rows: Tensor, state: Tensors, sums: Tensor) -> None:
        """The batch's new state, row by row; fill rows go to `scratch`.

        sums: (B,); where it is not finite, the session begins anew from the initial state.
        """
        for name, bank in self.state.items():
            sound = torch.isfinite(sums).view(-1, *(1,) * (bank.dim() - 1))
            bank.index_copy_(0, rows, torch.where(sound, state[name], self._initial[name]))

    def check_state(self, state: object, size: int) -> None:
        """Raises ModelError where the model's new state is not shaped as its initial one."""
        due = {name: (str(row.dtype), (size, *row.shape)) for name, row in self._initial.items()}
        if not isinstance(state, dict):
            raise ModelError(f"model answered a state of {type(state).__name__}; due was a dict")
        came = {name: (str(t.dtype), tuple(t.shape)) for name, t in state.items()}
        if came != due:
            raise ModelError(
                f"model answered the state {_said(came)}; due was {_said(due)}: "
                "return each tensor as initial_state gives it, with the batch's axis before"
            )

    def _write_identity(self, lane: int, identity: Tensors) -> None:
        for name, bank in self.identity.items():
            arriving = self._arriving.get(name)
            row = identity[name] if arriving is None else arriving.copy_(identity[name])
            bank[lane].copy_(row, non_blocking=True)

    def _check_identity(self, identity: Tensors) -> None:
        came = {name: (str(t.dtype), tuple(t.shape)) for name, t in identity.items()}
        if identity and came != self._due:
            raise ModelError(
                f"the identity that came is {_said(came)}; due was {_said(self._due)}: "
                "compute it with this very model"
            )

    def _check_controls(self, controls: Mapping[str, float]) -> None:
        if unknown := sorted(set(controls) - set(self._ranges)):
            raise ModelError(
                f"the model has no control {unknown[0]!r}: "
                f"it has {', '.join(sorted(self._ranges)) or 'none'}"
            )


def _said(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    said = [
        f"{name} {shape} {dtype.removeprefix('torch.')}"
        for name, (dtype, shape) in sorted(tensors.items())
    ]
    return ", ".join(said) or "empty"
