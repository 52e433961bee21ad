"""A performer's motion, carried to a portrait of other proportions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from workers.models.face import mesh, pose
from workers.models.face.performance import Performance
from workers.models.puppet.motion import MOUTH_CORNERS, TURN_GAIN, WIDEST, Motion, Mover, Rest

ONE = torch.ones(1)
MOVER = Mover()
SCALE = 22.0  # pixels a centimetre
CENTRE = torch.tensor([[256.0, 240.0, 0.0]])
LIMITS = torch.tensor([[[0.3, 0.4, 0.6], [0.2, 0.3, 0.6]]])
UPPER, LOWER = list(mesh.UPPER_LIP_EDGE), list(mesh.LOWER_LIP_EDGE)
EYES = ((mesh.RIGHT_UPPER_LID, mesh.RIGHT_LOWER_LID), (mesh.LEFT_UPPER_LID, mesh.LEFT_LOWER_LID))


def face(mouth_cm: float = 0.0, wider: float = 1.0, gap: float = 1.0) -> Tensor:
    """(478, 3): the mouth so far open, so much wider, the eyes by so much of their gap."""
    shape = mesh.canonical_shape()
    shape[UPPER] = shape[LOWER] = (shape[UPPER] + shape[LOWER]) / 2
    shape[LOWER, 1] += mouth_cm
    shape[:, 0] *= wider
    for upper, lower in EYES:
        way = shape[list(lower)] - shape[list(upper)]
        shape[list(upper)] += way * (1 - gap)
    return shape


Vector = tuple[float, float, float]


def portrait(shape: Tensor | None = None, turn: Vector = (0.0, 0.0, 0.0)) -> Rest:
    shape = face() if shape is None else shape
    rotation = pose.rotation_of(torch.tensor([turn]))
    points = shape @ rotation.transpose(1, 2) * SCALE + CENTRE[:, None]
    return Rest(points, rotation, ONE * SCALE, CENTRE, LIMITS)


@dataclass(frozen=True, slots=True)
class Act:
    now: Tensor
    neutral: Tensor
    turn: Vector = (0.0, 0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)
    growth: float = 0.0

    def performed(self) -> Performance:
        return Performance(
            turn=torch.tensor([self.turn]),
            shift=torch.tensor([self.shift]),
            growth=ONE * self.growth,
            shape=self.now[None],
            neutral=self.neutral[None],
            follow=ONE,
        )


def moved(act: Act, rest: Rest | None = None, expression: float = 1.0, head: float = 1.0) -> Motion:
    return MOVER(act.performed(), rest or portrait(), ONE * expression, ONE * head)


def opening(motion: Motion) -> float:
    """Between the lips, in pixels."""
    return float((motion.points[0, mesh.LOWER_LIP] - motion.points[0, mesh.UPPER_LIP]).norm())


STRANGER = face(wider=1.15)
TALKS = face(mouth_cm=1.5, wider=1.15, gap=0.7)
TALKS[:, 1] += 0.2


def assert_at_rest(motion: Motion, rest: Rest) -> None:
    assert torch.equal(motion.points, rest.points)
    assert torch.equal(motion.rotation, torch.eye(3)[None])
    assert torch.equal(motion.growth, ONE) and torch.equal(motion.lids, torch.ones(1, 2))
    assert not motion.shift.any() and not motion.gaze.any() and not motion.jaw.any()


def test_a_strangers_rest_leaves_the_portrait_as_it_is() -> None:
    rest = portrait(turn=(0.1, 0.3, 0.0))
    assert_at_rest(moved(Act(STRANGER, STRANGER), rest), rest)


def test_at_strengths_of_nought_nothing_moves() -> None:
    act = Act(TALKS, STRANGER, turn=(0.1, 0.3, -0.2), shift=(2.0, 1.0), growth=0.3)
    assert_at_rest(moved(act, expression=0.0, head=0.0), portrait())


def test_the_strengths_are_two() -> None:
    act = Act(TALKS, STRANGER, turn=(0.1, 0.3, -0.2))
    assert not (moved(act, expression=0.0).rotation == torch.eye(3)).all()
    still = moved(act, head=0.0)
    assert torch.equal(still.rotation, torch.eye(3)[None]) and opening(still) > 10
    assert opening(moved(act, expression=1.5)) > 1.3 * opening(still)


def test_a_mouth_opens_by_the_portraits_proportions() -> None:
    same = opening(moved(Act(face(1.0), face())))
    assert same == pytest.approx(1.0 * SCALE, rel=0.05)
    low = face()
    below = low[:, 1] > low[2, 1]
    low[below, 1] += (low[below, 1] - low[2, 1]) * 0.4  # a longer chin
    assert opening(moved(Act(face(1.0), face()), portrait(low))) > 1.2 * same


def test_an_open_mouth_of_the_portrait_opens_further() -> None:
    smiling = portrait(face(mouth_cm=0.5))
    assert opening(moved(Act(face(1.0), face()), smiling)) > opening(moved(Act(face(1.0), face())))


def test_inner_lips_never_cross() -> None:
    pressed = face(mouth_cm=-0.6)
    for rest in (portrait(), portrait(face(mouth_cm=0.2), turn=(0.0, 0.3, 0.2))):
        motion = moved(Act(pressed, face()), rest, expression=2.0)
        there = (motion.points - rest.centre[:, None]) @ rest.rotation
        assert (there[0, LOWER, 1] - there[0, UPPER, 1]).min() > -1e-3


def test_an_expression_turns_with_the_portrait() -> None:
    straight, turned = portrait(), portrait(turn=(0.2, 0.4, -0.1))
    act = Act(face(1.0, gap=0.5), face())
    flat = moved(act, straight).points - straight.points
    motion = moved(act, turned)
    assert (
        motion.points - turned.points - flat @ turned.rotation.transpose(1, 2)
    ).abs().max() < 0.01


def test_a_shut_eye_shuts_the_portraits_whatever_their_sizes() -> None:
    narrow = portrait(face(gap=0.6))
    for rest in (portrait(), narrow):
        motion = moved(Act(face(gap=0.25), face()), rest)
        assert (motion.lids < 0.02).all()
        for upper, lower in EYES:
            gap = motion.points[0, list(lower), 1] - motion.points[0, list(upper), 1]
            assert gap.abs().max() < 0.05 * SCALE


def test_lids_go_smoothly_and_only_one_way_from_shut_to_wide() -> None:
    gaps = [n / 50 for n in range(100)]
    lids = torch.cat([moved(Act(face(gap=gap), face())).lids for gap in gaps])[:, 0]
    steps = lids.diff()
    assert (steps > -1e-6).all() and steps.max() < 0.05
    assert steps.diff().abs().max() < 0.01
    assert lids[0].abs() < 1e-6 and 1.2 < lids[-1] <= WIDEST


def test_one_eye_may_wink() -> None:
    wink = face()
    upper, lower = (list(it) for it in EYES[0])
    wink[upper] = wink[lower]
    right, left = moved(Act(wink, face())).lids[0]
    assert right < 0.02 and left == 1


def test_the_crease_follows_the_lid_half_of_its_way() -> None:
    motion = moved(Act(face(gap=0.2), face()))
    down = (motion.points - portrait().points)[0, :, 1]
    assert 0.3 < down[27] / down[159] < 0.7


def test_irises_look_where_the_performers_do_and_stay_in_the_eye() -> None:
    looks = face()
    looks[468:, 0] += 0.3
    motion = moved(Act(looks, face()))
    assert 3 < motion.gaze[0, 0] < 0.3 * SCALE and motion.gaze[0, 1].abs() < 0.2
    went = (motion.points - portrait().points)[0, 468:, :2]
    assert (went - motion.gaze).abs().max() < 1e-3
    looks[468:, 0] += 5
    width = (portrait().points[0, 33] - portrait().points[0, 133]).norm()
    assert moved(Act(looks, face())).gaze[0, 0] < 0.25 * width


def test_the_lower_teeth_go_with_the_jaw_not_with_a_smile() -> None:
    dropped = face(1.0)
    dropped[[17, 18, 200, 199], 1] += 1.0
    assert moved(Act(dropped, face())).jaw[0, 1] == pytest.approx(SCALE, rel=0.1)
    smile = face()
    smile[list(MOUTH_CORNERS), 0] *= 1.2
    assert moved(Act(smile, face())).jaw.abs().max() < 0.1


def test_the_skulls_outline_is_no_expression() -> None:
    bent = face()
    bent[list(mesh.OVAL), 2] += 0.5
    gone = (moved(Act(bent, face())).points - portrait().points)[0].norm(dim=1)
    assert gone[10] < 0.1 and gone[mesh.LEFT_CHEEK] < 2


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("way", [1, -1])
def test_a_turn_is_followed_and_never_goes_beyond_the_portraits_limit(axis: int, way: int) -> None:
    def turned(angle: float) -> float:
        turn = [0.0, 0.0, 0.0]
        turn[axis] = angle * way
        found = pose.vector_of(moved(Act(face(), face(), (turn[0], turn[1], turn[2]))).rotation)
        return float(found[0, axis]) * way

    limit = float(LIMITS[0, 0 if way > 0 else 1, axis])
    small = 0.06 * TURN_GAIN[axis]  # what the limit takes is given before
    assert 0.9 * small < turned(0.06) < small
    assert 0.6 * limit < turned(limit) < limit
    assert turned(limit) < turned(2 * limit) <= limit + 1e-4


def test_how_near_and_where_a_head_is_has_limits_too() -> None:
    near = moved(Act(face(), face(), shift=(50.0, -50.0), growth=2.0))
    assert 1.05 < near.growth < 1.2
    width = (portrait().points[0, mesh.LEFT_CHEEK] - portrait().points[0, mesh.RIGHT_CHEEK]).norm()
    assert (near.shift.abs() < 0.35 * width).all() and near.shift[0, 0] > 0 > near.shift[0, 1]


def test_rows_do_not_see_each_other() -> None:
    act, other = Act(TALKS, STRANGER, (0.1, 0.2, 0.0)), Act(STRANGER, STRANGER)
    rests = portrait(), portrait(turn=(0.0, 0.4, 0.0))
    both = MOVER(
        Performance(
            *(torch.cat(it) for it in zip(act.performed(), other.performed(), strict=True))
        ),
        Rest(*(torch.cat(it) for it in zip(*rests, strict=True))),
        torch.ones(2),
        torch.ones(2),
    )
    for one, together in zip(moved(act, rests[0]), both, strict=True):
        assert (one[0] - together[0]).abs().max() < 1e-3


@pytest.mark.parametrize("points", [torch.zeros(478, 3), torch.ones(478, 3)])
def test_what_is_no_face_moves_nothing_to_nowhere(points: Tensor) -> None:
    motion = moved(Act(points, points), portrait(points))
    assert all(it.isfinite().all() for it in motion)
