"""What the performer does, off a neutral that is found while they do it."""

from __future__ import annotations

import torch
from faces import nobody, rows, scene
from torch import Tensor

from workers.geometry import Geometry
from workers.models.api import AvatarModel, Tensors
from workers.models.face import mesh, pose
from workers.models.face.blendshapes import NAMES
from workers.models.face.neutral import LONGEST_S, Neutral, NeutralFinder
from workers.models.face.performance import Performance, Performer
from workers.models.face.pose import Pose
from workers.rehearsal import rehearse

ONE = torch.ones(1)
PERFORMER = Performer()
FINDER = NeutralFinder()
HEAD = Pose(torch.eye(3)[None], ONE * 9, torch.tensor([[128.0, 128.0, 0.0]]))


def perform(*frames: Tensor, request: float = 0.0) -> list[Performance]:
    steps, state = [], rows(PERFORMER.initial_state())
    with torch.inference_mode():
        for frame in frames:
            step, state = PERFORMER(frame, state, ONE / 25, ONE, ONE * request)
            steps.append(step)
    return steps


def face(mouth_cm: float = 0.0, wider: float = 1.0) -> Tensor:
    """Somebody's: not the canonical proportions, the mouth so far open."""
    shape = mesh.canonical_shape()
    upper, lower = list(mesh.UPPER_LIP_EDGE), list(mesh.LOWER_LIP_EDGE)
    middle = (shape[upper] + shape[lower]) / 2
    shape[upper], shape[lower] = middle.clone(), middle
    shape[lower, 1] += mouth_cm
    shape[:, 0] *= wider
    return shape[None]


def acts(jaw: float = 0.0, smile: float = 0.0, blink: float = 0.0) -> Tensor:
    shapes = torch.zeros(1, len(NAMES))
    shapes[0, NAMES.index("jawOpen")] = jaw
    shapes[0, NAMES.index("mouthSmileLeft")] = shapes[0, NAMES.index("mouthSmileRight")] = smile
    shapes[0, NAMES.index("eyeBlinkLeft")] = blink
    return shapes + 0.01


def settle(
    *frames: tuple[Tensor, Tensor], request: float = 0.0, state: Tensors | None = None
) -> tuple[Neutral, Tensors]:
    state = state or rows(FINDER.initial_state())
    new = state["known"][:, 0] < 0
    for shape, does in frames:
        neutral, state = FINDER(shape, HEAD, does, ONE > 0, new, ONE * request, ONE / 25, state)
    return neutral, state


def mouth_of(neutral: Neutral) -> float:
    return float(neutral.shape[0, mesh.LOWER_LIP, 1] - neutral.shape[0, mesh.UPPER_LIP, 1])


SHUT, OPEN = (face(0.0, 1.1), acts()), (face(1.5, 1.1), acts(jaw=0.7))
SMILE = (face(0.6, 1.1), acts(jaw=0.1, smile=0.8))


def test_who_begins_in_mid_speech_has_a_closed_mouth_at_rest() -> None:
    assert mouth_of(settle(*[OPEN] * 25)[0]) < 0.2 * 1.5
    assert mouth_of(settle(*([OPEN] * 5 + [SHUT] * 3) * 8)[0]) < 0.1


def test_who_begins_in_a_smile_is_seen_to_smile_and_settles_after_it() -> None:
    smiling, state = settle(*[SMILE] * 50)
    assert mouth_of(smiling) < 0.3
    calm, _ = settle(*[SHUT] * 50, state=state)
    assert mouth_of(calm) < 0.05
    assert (calm.shape - SHUT[0]).abs().max() < 0.1


def test_the_neutral_never_jumps() -> None:
    state = rows(FINDER.initial_state())
    last = state["neutral"]
    for shape, does in [*[SMILE] * 10, *[SHUT] * 10, *[OPEN] * 10]:
        neutral, state = settle((shape, does), state=state)
        assert (neutral.shape - last).abs().max() < 0.25
        last = neutral.shape


def test_a_neutral_is_taken_anew_on_request_and_kept() -> None:
    _, state = settle(*[SHUT] * 100)
    asked, state = settle(SMILE, request=1.0, state=state)
    assert (asked.shape - SMILE[0]).abs().max() < 1e-5
    later, _ = settle(*[SMILE] * 10, request=1.0, state=state)
    assert (later.shape - SMILE[0]).abs().max() < 1e-3


def test_a_blink_does_not_become_the_eyes_rest() -> None:
    lids = face(0.0, 1.1)
    lids[0, list(mesh.LEFT_UPPER_LID)] = lids[0, list(mesh.LEFT_LOWER_LID)]
    rested, state = settle(*[SHUT] * 50)
    blinked, _ = settle(*[(lids, acts(blink=0.9))] * 8, state=state)
    assert (blinked.shape - rested.shape).abs().max() < 0.01


def test_what_was_long_ago_fades() -> None:
    _, state = settle(*[SHUT] * 25 * int(LONGEST_S + 2))
    assert float(state["known"].max()) <= LONGEST_S


def test_a_still_face_is_at_rest_but_for_its_smile() -> None:
    last = perform(*[scene()] * 15)[-1]
    assert last.follow == 1
    assert last.turn.abs().max() < 0.3 and last.growth.abs() < 0.05
    wide = (last.shape - last.neutral)[0, [61, 291], 0]
    assert wide[1] - wide[0] > 0.3  # centimetres


def test_a_turned_picture_is_a_turned_head() -> None:
    straight = perform(*[scene()] * 10)[-1]
    state = rows(PERFORMER.initial_state())
    with torch.inference_mode():
        for frame in [scene()] * 10 + [_turned(scene())] * 6:
            step, state = PERFORMER(frame, state, ONE / 25, ONE, ONE * 0)
    assert abs(float(step.turn[0, 2] - straight.turn[0, 2]) - 0.3) < 0.1


def _turned(picture: Tensor, angle: float = 0.3) -> Tensor:
    c, s = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    way = torch.stack([torch.stack([c, s, c * 0]), torch.stack([-s, c, c * 0])])[None]
    grid = torch.nn.functional.affine_grid(way, list(picture.shape), align_corners=False)
    return torch.nn.functional.grid_sample(
        picture, grid, padding_mode="border", align_corners=False
    )


def test_without_a_face_everything_is_finite_and_at_rest() -> None:
    for step in perform(*[nobody()] * 3, torch.zeros(1, 3, 256, 256), torch.rand(1, 3, 64, 96)):
        assert all(it.isfinite().all() for it in step)
        assert not step.turn.any() and not step.shift.any() and not step.growth.any()
        assert torch.equal(step.shape, step.neutral)


def test_a_lost_head_goes_home_step_by_step() -> None:
    state, turns = rows(PERFORMER.initial_state()), []
    with torch.inference_mode():
        for frame in [scene()] * 10 + [_turned(scene())] * 6 + [nobody()] * 14:
            step, state = PERFORMER(frame, state, ONE / 25, ONE, ONE * 0)
            turns.append(step.turn[0])
    back = torch.stack(turns[-15:])
    assert (back[1:] - back[:-1]).norm(dim=1).max() < 0.08
    assert not back[-1].any()


def test_a_head_that_leaves_the_picture_comes_home_in_small_steps() -> None:
    steps = perform(*[scene()] * 10, *[scene(0.15 * n) for n in range(12)], *[nobody()] * 14)
    shifts = torch.cat([step.shift for step in steps])
    assert shifts.norm(dim=1).max() > 2  # centimetres
    back = (shifts[-15:].diff(dim=0)).norm(dim=1)
    assert back.max() < 0.05 * 15 and not shifts[-1].any()


class Shown(AvatarModel):
    """The room as a model's part: what it says is the picture's brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.performer = Performer()

    def initial_state(self) -> Tensors:
        return self.performer.initial_state()

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        one = torch.ones_like(dt_s)
        step, state = self.performer(frames, state, dt_s, one, one * 0)
        return frames * step.turn.norm(dim=1)[:, None, None, None], state


def test_it_passes_the_rehearsal() -> None:
    verdict = rehearse(Shown().eval(), Geometry(256, 256), 4)
    assert verdict.capturable, str(verdict)


def test_it_exports() -> None:
    inputs = (scene(), rows(PERFORMER.initial_state()), ONE / 25, ONE, ONE * 0)
    program = torch.export.export(PERFORMER, inputs, strict=False)
    with torch.no_grad():
        theirs, ours = program.module()(*inputs), PERFORMER(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(theirs[0], ours[0], strict=True))
    assert all(torch.equal(theirs[1][name], ours[1][name]) for name in ours[1])


def test_the_pose_of_the_finder_is_a_head_that_looks_at_the_camera() -> None:
    turned = Pose(pose.rotation_of(torch.tensor([[0.0, 0.9, 0.0]])), HEAD.scale, HEAD.centre)
    state = rows(FINDER.initial_state())
    for head in [turned] * 5 + [HEAD] * 25:
        neutral, state = FINDER(SHUT[0], head, SHUT[1], ONE > 0, ONE > 2, ONE * 0, ONE / 25, state)
    assert pose.vector_of(neutral.home.rotation).norm() < 0.05
