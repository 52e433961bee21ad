"""Poses: what was turned by hand is found again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.models.face import mesh, pose

FACE = mesh.canonical()
TURNS = torch.tensor(
    [
        (0.0, 0, 0),
        (0.5, 0, 0),
        (0, -0.6, 0),
        (0, 0, 0.9),
        (0.3, 0.4, -0.5),
        (0, 0, 2.5),
        (1e-4, 0, 0),
    ]
)


def posed(turns: Tensor) -> Tensor:
    turned = FACE.vertices @ pose.rotation_of(turns).transpose(1, 2)
    return turned * 7 + torch.tensor([100.0, 50.0, -30.0])


def test_a_known_pose_is_found() -> None:
    found = pose.fit(FACE.vertices[None], posed(TURNS), FACE.weights)
    assert (pose.vector_of(found.rotation) - TURNS).abs().max() < 1e-4
    assert (found.scale - 7).abs().max() < 1e-3


def test_undoing_it_gives_the_face_itself() -> None:
    found = pose.fit(FACE.vertices[None], posed(TURNS), FACE.weights)
    around = FACE.vertices - (FACE.vertices * FACE.weights[:, None]).sum(0)
    assert (pose.undo(posed(TURNS), found) - around).abs().max() < 1e-3


def test_it_is_what_an_svd_finds_in_a_face_that_moves() -> None:
    torch.manual_seed(1)
    points = posed(TURNS) + torch.randn(len(TURNS), 468, 3) * 3
    found = pose.fit(FACE.vertices[None], points, FACE.weights).rotation
    weight = FACE.weights[:, None]
    model = FACE.vertices - (FACE.vertices * weight).sum(0)
    u, _, v = torch.linalg.svd((points * weight).transpose(1, 2).double() @ model.double())
    assert (found - u @ v).abs().max() < 1e-4


def test_a_cloud_as_flat_as_a_coin_has_a_pose_too() -> None:
    flat = torch.diag(torch.tensor([1.0, 0.5, 0.02]))
    turns = pose.rotation_of(TURNS)
    assert (pose.nearest_rotation(turns @ flat) - turns).abs().max() < 1e-4


def test_rotations_are_rotations() -> None:
    torch.manual_seed(1)
    found = pose.nearest_rotation(pose.rotation_of(TURNS) + 0.2 * torch.randn(len(TURNS), 3, 3))
    assert (found @ found.transpose(1, 2) - torch.eye(3)).abs().max() < 1e-5


@pytest.mark.parametrize("points", [torch.zeros(1, 468, 3), torch.ones(1, 468, 3)])
def test_points_that_are_no_face_give_finite_numbers(points: Tensor) -> None:
    found = pose.fit(FACE.vertices[None], points, FACE.weights)
    assert all(it.isfinite().all() for it in found)
    assert found.scale.log().isfinite().all()
    assert pose.vector_of(found.rotation).isfinite().all()


def test_a_thousandth_of_a_pixel_is_a_small_turn_near_rest() -> None:
    still = pose.fit(FACE.vertices[None], posed(TURNS[:1]), FACE.weights)
    moved = pose.fit(
        FACE.vertices[None], posed(TURNS[:1]) + 1e-3 * torch.randn(468, 3), FACE.weights
    )
    step = pose.vector_of(moved.rotation) - pose.vector_of(still.rotation)
    assert step.abs().max() < 1e-4
