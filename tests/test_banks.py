"""workers.banks: a row is one lane's, and nobody else's."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from workers.banks import Banks
from workers.errors import ModelError
from workers.models.api import AvatarModel, Control, Tensors

MAX_SESSIONS, MOST = 3, 4
DEFAULT: Tensors = {"face": torch.tensor([1.0, 2.0])}
INITIAL: Tensors = {"count": torch.tensor(5), "trace": torch.ones(2, 2)}


class Model(AvatarModel):
    controls: ClassVar = {"gain": Control(0.0, 1.0, 0.5)}


class Reader(Model):
    reads_banks: ClassVar = True


def host_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def banks_of(model: type[AvatarModel] = Model) -> Banks:
    return Banks(
        model(),
        DEFAULT,
        INITIAL,
        max_sessions=MAX_SESSIONS,
        most=MOST,
        device=torch.device("cpu"),
        host_tensor=host_tensor,
    )


def rows(*lanes: int) -> Tensor:
    return torch.tensor(lanes)


def sums(count: int = 1) -> Tensor:
    return torch.ones(count)


def test_a_bank_has_a_row_for_every_session_and_a_scratch_row() -> None:
    banks = banks_of()
    assert banks.scratch == 3
    assert banks.identity["face"].shape == (4, 2)
    assert banks.state["trace"].shape == (4, 2, 2) and banks.state["count"].shape == (4,)
    assert banks.controls["gain"].tolist() == [0.5] * 4


def test_a_new_tenant_has_its_identity_the_initial_state_and_its_controls() -> None:
    banks = banks_of()
    banks.scatter(rows(1), {"count": torch.tensor([9]), "trace": torch.zeros(1, 2, 2)}, sums())
    banks.set_controls(1, {"gain": 0.9})
    banks.open(1, {"face": torch.tensor([7.0, 8.0])}, {})
    identity, state, controls = banks.gather(rows(1, 0))
    assert identity["face"].tolist() == [[7.0, 8.0], [1.0, 2.0]]
    assert state["count"].tolist() == [5, 5] and state["trace"].sum() == 8
    assert controls["gain"].tolist() == [0.5, 0.5]
    banks.open(1, {}, {"gain": 0.1})
    identity, _, controls = banks.gather(rows(1))
    assert identity["face"].tolist() == [[1.0, 2.0]]
    assert controls["gain"].tolist() == [pytest.approx(0.1)]


def test_a_new_state_reaches_its_own_rows_only_and_the_fill_s_none() -> None:
    banks = banks_of()
    new = {"count": torch.tensor([10, 20, 99, 98]), "trace": torch.zeros(4, 2, 2)}
    banks.scatter(rows(2, 0, banks.scratch, banks.scratch), new, sums(4))
    _, state, _ = banks.gather(rows(0, 1, 2))
    assert state["count"].tolist() == [20, 5, 10]


def test_a_row_that_is_not_sound_begins_anew() -> None:
    banks = banks_of()
    banks.scatter(rows(0), {"count": torch.tensor([7]), "trace": torch.zeros(1, 2, 2)}, sums())
    new = {"count": torch.tensor([10, 20]), "trace": torch.full((2, 2, 2), torch.nan)}
    new["trace"][1] = 3.0
    banks.scatter(rows(0, 1), new, torch.tensor([torch.nan, 1.0]))
    _, state, _ = banks.gather(rows(0, 1))
    assert state["count"].tolist() == [5, 20]
    assert (state["trace"][0] == 1).all() and (state["trace"][1] == 3).all()


def test_what_is_gathered_is_a_copy() -> None:
    banks = banks_of()
    _, state, controls = banks.gather(rows(0, 0))
    state["count"].zero_()
    controls["gain"].zero_()
    _, state, controls = banks.gather(rows(0))
    assert state["count"].tolist() == [5] and controls["gain"].tolist() == [0.5]


def test_nothing_is_allocated_after_birth() -> None:
    banks = banks_of()

    def addresses() -> list[int]:
        gathered = [t for part in banks.gather(rows(0, 1)) for t in part.values()]
        held = [*banks.identity.values(), *banks.state.values(), *banks.controls.values()]
        return [tensor.data_ptr() for tensor in [*gathered, *held]]

    before = addresses()
    banks.open(0, {"face": torch.zeros(2)}, {"gain": 1.0})
    banks.scatter(rows(0), {"count": torch.tensor([1]), "trace": torch.zeros(1, 2, 2)}, sums())
    banks.set_controls(0, {"gain": 0.0})
    assert addresses() == before


def test_a_model_that_reads_banks_gets_the_whole_identity() -> None:
    banks = banks_of(Reader)
    identity, state, controls = banks.gather(rows(2, 1))
    assert identity["face"] is banks.identity["face"]
    assert len(state["count"]) == len(controls["gain"]) == 2


def test_another_identity_leaves_its_tenant_the_state_and_the_controls() -> None:
    banks = banks_of()
    banks.set_controls(1, {"gain": 0.9})
    banks.state["count"][1] = 9
    banks.set_identity(1, {"face": torch.tensor([7.0, 8.0])})
    identity, state, controls = banks.gather(rows(1, 0))
    assert identity["face"].tolist() == [[7.0, 8.0], [1.0, 2.0]]
    assert state["count"].tolist() == [9, 5]
    assert controls["gain"].tolist() == [pytest.approx(0.9), 0.5]
    with pytest.raises(ModelError, match=r"face \(3,\) float32"):
        banks.set_identity(1, {"face": torch.zeros(3)})
    assert banks.gather(rows(1))[0]["face"].tolist() == [[7.0, 8.0]]


@pytest.mark.parametrize(
    ("identity", "came"),
    [
        ({"face": torch.zeros(3)}, r"face \(3,\) float32"),
        ({"face": torch.zeros(2, dtype=torch.float64)}, r"face \(2,\) float64"),
        ({"head": torch.zeros(2)}, r"head \(2,\) float32"),
    ],
)
def test_a_strange_identity_is_refused_before_anything_is_written(
    identity: Tensors, came: str
) -> None:
    banks = banks_of()
    banks.scatter(rows(0), {"count": torch.tensor([6]), "trace": torch.zeros(1, 2, 2)}, sums())
    with pytest.raises(ModelError, match=rf"{came}; due was face \(2,\) float32"):
        banks.open(0, identity, {})
    assert banks.gather(rows(0))[1]["count"].tolist() == [6]


def test_a_strange_control_is_refused_by_name() -> None:
    banks = banks_of()
    with pytest.raises(ModelError, match="no control 'gian': it has gain"):
        banks.set_controls(0, {"gian": 1.0})
    with pytest.raises(ModelError, match="no control 'gian'"):
        banks.open(0, {}, {"gian": 1.0})


def test_a_new_state_must_be_shaped_as_the_initial_one() -> None:
    banks = banks_of()
    good = {"count": torch.tensor([1, 2]), "trace": torch.zeros(2, 2, 2)}
    banks.check_state(good, 2)
    for bad in (
        {"count": good["count"]},
        {**good, "trace": torch.zeros(2, 2)},
        {**good, "count": torch.tensor([1.0, 2.0])},
        {**good, "more": torch.zeros(2)},
    ):
        with pytest.raises(ModelError, match="due was count"):
            banks.check_state(bad, 2)
    with pytest.raises(ModelError, match="due was count"):
        banks.check_state(good, 3)
