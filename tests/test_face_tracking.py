"""A face is followed, lost without a jump, and found again."""

from __future__ import annotations

from itertools import pairwise

import torch
from faces import nobody, portrait, rows, scene
from torch import Tensor

from workers.models.api import Tensors
from workers.models.face import mesh, region
from workers.models.face.tracking import Tracked, Tracker

DT = torch.full((1,), 1 / 25)
ONE = torch.ones(1)
TRACKER = Tracker()


def follow(*frames: Tensor, state: Tensors | None = None) -> list[tuple[Tracked, Tensors]]:
    steps = []
    state = state or rows(TRACKER.initial_state())
    with torch.inference_mode():
        for frame in frames:
            tracked, state = TRACKER(frame, state, DT, ONE)
            steps.append((tracked, state))
    return steps


def width_of(points: Tensor) -> Tensor:
    return (points[:, mesh.LEFT_CHEEK] - points[:, mesh.RIGHT_CHEEK]).norm(dim=1)


def test_a_crop_and_its_way_back_agree() -> None:
    place = torch.tensor([[120.0, 90.0, 50.0, 0.4]])
    steps = (torch.arange(64) * 2 + 1) / 64 - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = region.into_frame(torch.stack([x, y], -1).reshape(1, -1, 2), place)
    column = torch.arange(256.0).add(0.5).expand(1, 3, 256, 256)  # a pixel's value is where it is
    cut = region.crop(column, place, 64)[0, 0].reshape(-1)
    assert (cut - places[0, :, 0]).abs().max() < 1e-2


def test_the_first_frame_finds_the_face_where_it_is() -> None:
    for x, y, size in ((0.0, 0.0, 0.6), (0.4, -0.3, 0.5), (-0.3, 0.2, 0.35)):
        (tracked, _), *_ = follow(scene(x, y, size))
        assert tracked.found and tracked.new
        nose = tracked.points[0, 4, :2] / 128 - 1
        assert (nose - torch.tensor([x, y])).abs().max() < 0.25 * size


def test_a_face_60_pixels_wide_is_followed() -> None:
    steps = follow(*[scene(0.1 + 0.01 * n, 0, 0.35) for n in range(4)])
    assert all(tracked.found for tracked, _ in steps)
    assert 50 < width_of(steps[-1][0].points) < 70


def test_pictures_that_are_not_square_are_seen_as_they_are() -> None:
    wide = torch.cat([nobody()[..., :100], scene(), nobody()[..., :100]], -1)
    (square, _), *_ = follow(scene())
    (tracked, _), *_ = follow(wide)
    moved = square.points + torch.tensor([100.0, 0, 0])
    assert (tracked.points - moved)[..., :2].norm(dim=-1).mean() < 0.02 * width_of(moved)


def test_following_keeps_to_its_face_and_gives_way_to_none() -> None:
    steps = follow(*[scene(0.02 * n, 0) for n in range(6)])
    assert [bool(tracked.found) for tracked, _ in steps] == [True] * 6
    ahead = steps[-1][0].points[0, 4, 0] - steps[0][0].points[0, 4, 0]
    assert abs(float(ahead) - 0.1 * 128) < 4
    assert not follow(nobody())[0][0].found


def test_a_lost_face_eases_to_rest_in_half_a_second_without_a_jump() -> None:
    before = follow(*[scene()] * 10)
    steps = follow(*[nobody()] * 14, state=before[-1][1])
    eased = [before[-1][0].follow, *(tracked.follow for tracked, _ in steps)]
    assert eased[0] == 1 and eased[-1] == 0
    falls = torch.cat([a - b for a, b in pairwise(eased)])
    assert (falls >= 0).all() and falls.max() < 0.2
    assert all(torch.equal(t.points, before[-1][0].points) for t, _ in steps)


def test_a_face_that_returns_elsewhere_begins_at_rest() -> None:
    gone = follow(*[scene(-0.4)] * 8, *[nobody()] * 14)[-1][1]
    steps = follow(*[scene(0.4)] * 8, state=gone)
    assert steps[0][0].new and not steps[1][0].new
    assert steps[0][0].follow < 0.2 and steps[-1][0].follow == 1
    assert steps[0][0].points[0, 4, 0] > 140


def test_a_frame_without_a_face_between_is_no_new_face() -> None:
    steps = follow(*[scene()] * 8, nobody(), scene())
    assert not steps[-2][0].found and steps[-1][0].found and not steps[-1][0].new
    assert steps[-1][0].follow > 0.8


def test_noise_on_a_still_face_moves_its_points_by_less_than_a_tenth_of_a_pixel() -> None:
    torch.manual_seed(1)
    still = scene(size=0.65, side=512)
    noisy = [(still + torch.randn_like(still) * 4 / 255).clamp(0, 1) for _ in range(18)]
    found = torch.cat([tracked.points for tracked, _ in follow(*noisy)][8:])[..., :2]
    moves = (found - found.mean(0)).square().sum(-1).mean().sqrt()
    assert moves < 0.1  # unfiltered: 0.15


def test_smoothing_costs_at_most_a_frame() -> None:
    """Of a head that goes to and fro as heads do."""
    places = [0.12 * torch.tensor(n / 25 * 2 * torch.pi * 0.8).sin().item() for n in range(25)]
    found = torch.stack([t.points[0, 4, 0] for t, _ in follow(*[scene(x) for x in places])])
    went = torch.tensor(places) * 128 + 128

    def off(lag: float) -> Tensor:
        """By how much the track of so many frames later differs."""
        whole, part = int(lag), lag - int(lag)
        late = went * (1 - part) + went.roll(1) * part
        difference = found[8 + whole :] - late[8 : len(went) - whole if whole else None]
        return (difference - difference.mean()).square().mean()

    lags = [step / 10 for step in range(30)]
    assert min(lags, key=lambda lag: float(off(lag))) <= 1.0


def test_smoothing_nought_takes_the_points_as_they_are() -> None:
    state = follow(*[scene()] * 8)[-1][1]
    with torch.inference_mode():
        raw, _ = TRACKER(scene(0.1), state, DT, ONE * 0)
        smooth, _ = TRACKER(scene(0.1), state, DT, ONE)
    fresh, *_ = follow(scene(0.1))
    assert raw.points[0, 4, 0] - smooth.points[0, 4, 0] > 0.1
    assert (raw.points - fresh[0].points)[..., :2].norm(dim=-1).mean() < 1


def test_rows_do_not_see_each_other_and_a_batch_is_its_rows() -> None:
    def run(*frames: Tensor) -> Tensor:
        state = rows(TRACKER.initial_state(), len(frames))
        many = ONE.expand(len(frames))
        with torch.inference_mode():
            for _ in range(2):
                tracked, state = TRACKER(torch.cat(frames), state, many / 25, many)
        return tracked.points

    one = run(scene(0.2), portrait())
    other = run(scene(0.2), nobody())
    assert torch.equal(one[0], other[0])
    assert (one[0] - run(scene(0.2))[0]).abs().max() < 0.01
