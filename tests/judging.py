"""What an avatar's face does, beside what its performer's does: seen by our net and by another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import torch
import torch.nn.functional as F
from faces import rows
from torch import Tensor

from workers.models.api import AvatarModel, Tensors
from workers.models.face import mesh, pose
from workers.models.face.landmarks import POINTS
from workers.models.face.tracking import Tracker

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build/judge"  # what scripts/face_judge fetched
FPS = 25.0
NEAR = 3  # frames, in which a lid's answer is looked for

# The bars: correlations at least, of what a net sees in the performer and in the avatar.
FILMED = {"mouth": 0.94, "yaw": 0.96, "roll": 0.96, "pitch": 0.70, "blink": 0.87}
ACTED = {**FILMED, "blink": 0.95}
TROUBLED = 0.85  # of the mouth, where a performer is hard to follow
SLOPES = (0.5, 1.3)
SHUT = 0.35  # of a lid's gap at rest, at most, on every blink
JITTER_PX = 0.15
LAG_FRAMES = 1.0
LOST_STEP = 0.05  # of the face's width a frame, while there is no face


def is_fetched() -> bool:
    return (HOME / ".made").exists()


def clip(name: str, side: int, first: int = 0, count: int = 10_000) -> Tensor:
    """(N, 3, side, side) uint8: the middle square of so many frames."""
    frames = []
    with av.open(str(HOME / f"{name}.mp4")) as film:
        for number, frame in enumerate(film.decode(video=0)):
            if number >= first + count:
                break
            if number >= first:
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
    whole = torch.stack(frames).permute(0, 3, 1, 2)
    height, width = whole.shape[-2:]
    left, top = max(width - height, 0) // 2, max(height - width, 0) // 2
    square = whole[..., top : height - top, left : width - left]
    return torch.cat([scaled(part, side) for part in square.split(64)])


def scaled(pictures: Tensor, side: int) -> Tensor:
    """(N, 3, H, W) uint8 → (N, 3, side, side)."""
    size = (side, side)
    return F.interpolate(pictures.float(), size, mode="bilinear", antialias=True).round().byte()


# ---------------------------------------------------------------------- driving


def drive(
    model: AvatarModel, identity: Tensors, frames: Tensor, neutral_at: int | None = None
) -> Tensor:
    """The avatars (R, N, 3, H, W) uint8 of R identities, whose performer is the same.

    identity: with an axis of R before; frames (N, 3, H, W) uint8; neutral_at: the frame in which
    the performer says that this is their neutral face.
    """
    count = len(next(iter(identity.values())))
    one = torch.ones(count)
    state = rows(model.initial_state(), count)
    dials = {name: one * control.default for name, control in model.controls.items()}
    banks = (torch.arange(count),) if model.reads_banks else ()
    drawn = []
    with torch.inference_mode():
        for number, frame in enumerate(frames):
            seen = (frame.float() / 255).expand(count, *frame.shape).contiguous()
            dt_s = one / FPS if number else one * 0
            if number == neutral_at:
                dials["neutral"] = one
            picture, state = model(seen, identity, state, dials, dt_s, *banks)
            drawn.append((picture * 255).round().byte())
    return torch.stack(drawn, 1)


def stills(model: AvatarModel, identity: Tensors, side: int) -> Tensor:
    """The portraits at rest, (R, 3, 3, side, side) uint8: what is drawn while nobody is there."""
    return drive(model, identity, torch.full((3, 3, side, side), 127, dtype=torch.uint8))


# ---------------------------------------------------------------------- seeing


class OtherNet(AbstractContextManager["OtherNet"]):
    """A face net that neither we nor the avatars were tuned with, in a process of its own."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [HOME / "venv/bin/python", Path(__file__).with_name("judge_net.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def __call__(self, frames: Tensor) -> Tensor:
        """frames (…, N, 3, H, W) uint8, one after another → points (…, N, 478, 3); nan: no face."""
        if frames.dim() > 4:
            return torch.stack([self(film) for film in frames])
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None and answers is not None
        pipe.write(torch.tensor([len(frames), *frames.shape[-2:]], dtype=torch.int32).numpy())
        points = []
        for frame in frames.permute(0, 2, 3, 1).contiguous():
            pipe.write(frame.numpy())
            pipe.flush()
            answer = bytearray(answers.read(POINTS * 3 * 4))
            points.append(torch.frombuffer(answer, dtype=torch.float32).reshape(POINTS, 3))
        return torch.stack(points)


@cache
def _tracker() -> Tracker:
    return Tracker()


def our_net(frames: Tensor) -> Tensor:
    """frames (…, N, 3, H, W) uint8 → points (…, N, 478, 3), not smoothed; nan: no face."""
    films = frames.flatten(0, -5) if frames.dim() > 4 else frames[None]
    tracker, one = _tracker(), torch.ones(len(films))
    state, points = rows(tracker.initial_state(), len(films)), []
    with torch.inference_mode():
        for pictures in films.unbind(1):
            tracked, state = tracker(pictures.float() / 255, state, one / FPS, one * 0)
            lost = torch.where(tracked.found, 0.0, torch.nan)[:, None, None]
            points.append(tracked.points + lost)
    return torch.stack(points, 1).reshape(*frames.shape[:-3], POINTS, 3)


@dataclass(frozen=True, slots=True)
class Seen:
    """(N,) each, over time: angles in degrees, the rest by sizes of the face that stay."""

    mouth: Tensor  # between the lips, by the nose's length
    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    blink: Tensor  # between the lids, by the eyes' width: the mean of both
    lids: Tensor  # (N, 2) right and left
    smile: Tensor  # from corner to corner of the mouth, by the eyes' distance
    brows: Tensor  # above the eyes, by the nose's length
    gaze: Tensor  # off the middle of the eyes' corners, by their width


@cache
def _canonical() -> mesh.Mesh:
    return mesh.canonical()


def seen(points: Tensor) -> Seen:
    """points (N, 478, 3)."""
    face = _canonical()
    head = pose.fit(face.vertices[None], points[:, :468], face.weights)
    # Off where the head mostly is: a portrait's own turn is no motion.
    mostly = pose.nearest_rotation(head.rotation.mean(0, keepdim=True))
    turn = pose.vector_of(head.rotation @ mostly.transpose(1, 2)).rad2deg()
    shape = pose.undo(points, head)

    def between(one: int, other: int) -> Tensor:
        return (shape[:, one] - shape[:, other]).norm(dim=1)

    nose = between(168, 2)
    lids, looks, brows = [], [], []
    for outer, inner, iris, brow, upper, lower in (
        (33, 133, 468, 105, mesh.RIGHT_UPPER_LID, mesh.RIGHT_LOWER_LID),
        (362, 263, 473, 334, mesh.LEFT_UPPER_LID, mesh.LEFT_LOWER_LID),
    ):
        width = between(outer, inner)
        gap = (shape[:, list(lower[1:6])] - shape[:, list(upper[1:6])])[..., 1].mean(1)
        lids.append(gap / width)
        middle = (shape[:, outer] + shape[:, inner]) / 2
        looks.append((shape[:, iris] - middle)[:, 0] / width)
        brows.append((middle - shape[:, brow])[:, 1] / nose)
    return Seen(
        mouth=(shape[:, mesh.LOWER_LIP] - shape[:, mesh.UPPER_LIP])[:, 1] / nose,
        yaw=turn[:, 1],
        pitch=turn[:, 0],
        roll=turn[:, 2],
        blink=torch.stack(lids).mean(0),
        lids=torch.stack(lids, 1),
        smile=between(61, 291) / between(33, 263),
        brows=torch.stack(brows).mean(0),
        gaze=torch.stack(looks).mean(0),
    )


# --------------------------------------------------------------------- judging


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one portrait followed, by one net."""

    correlations: dict[str, float]
    slopes: dict[str, float]
    lags: dict[str, float]  # frames, of the mouth and the head
    blinks: tuple[float, ...]  # each driven blink's least gap, by the gap at rest
    lost: int  # frames without a face in the output


def compared(performer: Tensor, avatar: Tensor, rest: Tensor) -> Verdict:
    """Points (N, 478, 3) of both; rest (478, 3): of the portrait."""
    there = ~avatar.isnan().flatten(1).any(1) & ~performer.isnan().flatten(1).any(1)
    drives, follows, still = seen(performer[there]), seen(avatar[there]), seen(rest[None])
    names = [field.name for field in fields(Seen) if field.name != "lids"]
    pairs = {name: (getattr(drives, name), getattr(follows, name)) for name in names}
    return Verdict(
        correlations={name: correlation(*pair) for name, pair in pairs.items()},
        slopes={name: slope(*pair) for name, pair in pairs.items()},
        lags={name: lag(*pairs[name]) for name in ("mouth", "yaw", "roll")},
        blinks=blinks(drives.lids, follows.lids, still.lids[0]),
        lost=int((~there).sum()),
    )


def correlation(drives: Tensor, follows: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([drives, follows]))[0, 1])


def slope(drives: Tensor, follows: Tensor) -> float:
    """Of the line that fits best."""
    off = drives - drives.mean()
    return float((off * follows).sum() / off.square().sum())


def lag(drives: Tensor, follows: Tensor) -> float:
    """How many frames later it follows: where the two correlate best, to a tenth."""
    found = []
    for tenths in range(40):
        whole, part = divmod(tenths / 10, 1)
        late = drives[1:] * (1 - part) + drives[:-1] * part  # of the frame `part` before
        stop = len(late) - int(whole)
        found.append(correlation(late[:stop], follows[1 + int(whole) :]))
    return max(range(40), key=lambda tenths: found[tenths]) / 10


def blinks(drives: Tensor, follows: Tensor, rest: Tensor) -> tuple[float, ...]:
    """Of every blink of the performer's, the avatar's least gap by its gap at rest (2,).

    drives, follows (N, 2). A blink: both eyes fall below half of what they mostly are.
    """
    mostly = drives.median(0).values
    both = (drives / mostly).amax(1)
    shut = both < 0.5
    starts = [n for n in range(1, len(shut)) if shut[n] and not shut[n - 1]]
    found = []
    for start in starts:
        end = next((n for n in range(start, len(shut)) if not shut[n]), len(shut))
        near = follows[max(start - NEAR, 0) : end + NEAR]
        found.append(float((near / rest).mean(1).min()))
    return tuple(found)


def steps(points: Tensor) -> Tensor:
    """How far the face goes from frame to frame, by its width: the mean of its points, (N - 1,)."""
    width = (points[:, mesh.LEFT_CHEEK] - points[:, mesh.RIGHT_CHEEK]).norm(dim=1)[1:]
    return points[..., :2].diff(dim=0).norm(dim=2).mean(1) / width


def steps_while_gone(frames: Tensor, points: Tensor) -> Tensor:
    """Those steps of the avatar's points that end in a frame where no performer is seen."""
    return steps(points)[our_net(frames).isnan().flatten(1).any(1)[1:]]


def steadied(net: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """What a net sees, as the mean of nine readings of each frame, moved by a few pixels.

    Its own unsteadiness, several times a pixel's tenth on drawings, is not the picture's.
    """
    readings = []
    for x in (-3, 0, 3):
        for y in (-3, 0, 3):
            moved = torch.roll(frames, (y, x), (-2, -1))
            readings.append(net(moved) - torch.tensor([x, y, 0.0]))
    return torch.stack(readings).mean(0)


def jitter(points: Tensor) -> float:
    """Pixels, root of the mean square, off where the points (N, 478, 3) mostly are."""
    off = points[..., :2] - points[..., :2].mean(0)
    return float(off.square().sum(-1).mean().sqrt())
