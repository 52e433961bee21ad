"""workers.engine on a CPU: the one path that CUDA takes too, without streams and graphs."""

from __future__ import annotations

import gc
import logging
import math
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from workers.device import is_fatal, is_out_of_memory
from workers.engine import Done, Engine, Row, WarmUp
from workers.errors import LeaseError, ModelError
from workers.geometry import Geometry
from workers.messages import Fill
from workers.models.api import AvatarModel, Control, Tensors

GEOMETRY = Geometry(16, 16)
CPU = torch.device("cpu")
UNTOUCHED = 7


class Mirror(AvatarModel):
    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        return frames.clone(), state


class Counting(AvatarModel):
    """Answers a grey three steps of luma brighter for each frame that came before."""

    def initial_state(self) -> Tensors:
        return {"count": torch.full((1,), 10, dtype=torch.int64), "sum": torch.zeros(2, 3)}

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        grey = state["count"].to(frames.dtype) * (3 / 219)
        new = {"count": state["count"] + 1, "sum": state["sum"] + dt_s[:, None, None]}
        return grey[:, :, None, None].expand_as(frames), new


class Tinted(AvatarModel):
    """Answers its identity's colour times the control."""

    controls: ClassVar = {"gain": Control(0.0, 2.0, 1.0)}

    def identity(self, portrait: Tensor) -> Tensors:
        return {"colour": portrait.mean(dim=(1, 2))}

    def default_portrait(self) -> Tensor:
        return torch.full((3, 8, 8), 0.25)

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        colour = identity["colour"] * controls["gain"][:, None]
        return colour[:, :, None, None].expand_as(frames), {}


class Banked(Tinted):
    """The same, by reading the bank itself."""

    reads_banks: ClassVar = True

    def forward(  # type: ignore[override]  # the interface of a model that reads banks
        self,
        frames: Tensor,
        identity: Tensors,
        state: Tensors,
        controls: Tensors,
        dt_s: Tensor,
        rows: Tensor,
    ) -> tuple[Tensor, Tensors]:
        assert len(identity["colour"]) == 5  # max_sessions and scratch
        chosen = {"colour": identity["colour"][rows]}
        return super().forward(frames, chosen, state, controls, dt_s)


class Answering(AvatarModel):
    """Answers what the test says, and remembers what it was given."""

    def __init__(self, answer: Callable[[Tensor, Tensors], object] | None = None) -> None:
        super().__init__()
        self.answer = answer or (lambda frames, state: (frames.clone(), state))
        self.frames: list[Tensor] = []
        self.dt_s: list[Tensor] = []

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        self.frames = [*self.frames[-40:], frames.clone()]
        self.dt_s = [*self.dt_s[-40:], dt_s.clone()]
        return self.answer(frames, state)  # type: ignore[return-value]  # wrong on purpose


@contextmanager
def engine_of(
    model: AvatarModel,
    batch_sizes: Sequence[int] = (4,),
    *,
    fill: Fill | None = Fill.LAST,
    max_sessions: int = 4,
    compile: bool = False,
    geometry: Geometry = GEOMETRY,
) -> Iterator[Engine]:
    torch.set_num_threads(1)
    with Engine(
        model,
        geometry=geometry,
        batch_sizes=batch_sizes,
        device=CPU,
        fill=fill,
        max_sessions=max_sessions,
        compile=compile,
        arena=None,
    ) as engine:
        engine.warm_up(lambda: None)
        yield engine


def grey(value: int) -> np.ndarray:
    """A frame whose luma is `value`."""
    frame = np.full((GEOMETRY.rows, GEOMETRY.width), 128, np.uint8)
    frame[: GEOMETRY.height] = value
    return frame


def row(lane: int, value: int = 100, dt_s: float = 0.04) -> Row:
    return Row(lane, grey(value), np.full_like(grey(0), UNTOUCHED), dt_s)


def open_all(engine: Engine, lanes: int = 4) -> None:
    for lane in range(lanes):
        engine.open_lane(lane, {}, {})


def run(engine: Engine, rows: Sequence[Row], size: int = 4) -> Done:
    batch = engine.submit(rows, size)
    assert engine.in_flight == 1
    done = engine.finished()
    assert done is not None and done.batch == batch and engine.in_flight == 0
    return done


def luma(row: Row) -> int:
    plane = row.slot_out[: GEOMETRY.height]
    assert (plane == plane[0, 0]).all()
    return int(plane[0, 0])


def counted(row: Row) -> int:
    """What `Counting` answered: how many frames came before this one."""
    return round((luma(row) - 16) / 3) - 10


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# ---------------------------------------------------------------------- one shape


def test_ten_thousand_batches_of_random_fill_run_in_one_shape_and_in_flat_memory() -> None:
    random = Random(0)
    rows = [row(lane) for lane in range(4)]
    with engine_of(Answering()) as engine:
        open_all(engine)
        filled = 0
        for batch in range(10_000):
            if batch == 1_000:
                before = rss_bytes()
            chosen = random.sample(rows, random.randint(1, 4))
            filled += 4 - len(chosen)
            for one in rows:
                one.slot_in[: GEOMETRY.height] = random.randint(16, 235)
                one.slot_out[0, 0] = UNTOUCHED
            assert run(engine, chosen).error is None
            for one in rows:
                if any(one is real for real in chosen):
                    assert (one.slot_out == one.slot_in).all()
                else:
                    assert one.slot_out[0, 0] == UNTOUCHED
        assert rss_bytes() - before < 5e6
        assert engine.shapes == 1
        assert engine.filled == filled > 0
        assert engine.recompilations == 0
        assert engine.events() == ()
        assert len(engine.recent) == 512


def test_a_ladder_shows_its_own_sizes_only() -> None:
    model = Answering()
    with engine_of(model, (2, 4)) as engine:
        open_all(engine)
        assert [len(frames) for frames in model.frames[:8]] == [4, 4, 4, 4, 2, 2, 2, 2]
        for real, size in ((1, 2), (2, 2), (3, 4), (4, 4), (1, 4)):
            run(engine, [row(lane) for lane in range(real)], size)
            assert len(model.frames[-1]) == size
        assert engine.shapes == 2
        with pytest.raises(AssertionError, match="3 was never warmed up"):
            engine.submit([row(0)], 3)


def test_the_fill_is_the_last_real_frame() -> None:
    model = Answering()
    with engine_of(model) as engine:
        open_all(engine)
        run(engine, [row(0, 40), row(1, 200)])
        given = model.frames[-1]
        assert torch.equal(given[1], given[2]) and torch.equal(given[1], given[3])
        assert not torch.equal(given[0], given[1])


def test_or_black_by_choice() -> None:
    model = Answering()
    with engine_of(model, fill=Fill.ZEROS) as engine:
        open_all(engine)
        run(engine, [row(lane, 200) for lane in range(4)])  # nothing of it may stay behind
        run(engine, [row(0, 200)])
        given = model.frames[-1]
        assert given[0].min() > 0.8 and given[1:].max() == 0


@pytest.mark.parametrize("fill", Fill)
def test_a_row_is_the_same_to_the_bit_whoever_shares_its_batch(fill: Fill) -> None:
    geometry, random = Geometry(64, 48), np.random.default_rng(0)

    def noisy(lane: int) -> Row:
        slot = random.integers(0, 256, (geometry.rows, geometry.width)).astype(np.uint8)
        return Row(lane, slot, np.zeros_like(slot), 0.04)

    with engine_of(Mirror(), fill=fill, geometry=geometry) as engine:
        open_all(engine)
        mine = noisy(2)
        run(engine, [mine])
        due = mine.slot_out.copy()
        assert due.std() > 10
        for others in range(4):
            for place in range(others + 1):
                batch = [noisy(lane) for lane in (0, 1, 3)[:others]]
                batch.insert(place, mine)
                mine.slot_out[:] = UNTOUCHED
                run(engine, batch)
                assert (mine.slot_out == due).all()


# --------------------------------------------------------------------------- lanes


def test_states_of_lanes_never_mix_and_begin_anew_with_each_tenant() -> None:
    random = Random(1)
    with engine_of(Counting(), max_sessions=6) as engine:
        open_all(engine, 6)
        due, longest = [0] * 6, 0
        for _ in range(800):
            if random.random() < 0.3:
                lane = random.randrange(6)
                engine.close_lane(lane)
                engine.open_lane(lane, {}, {})
                due[lane] = 0
            rows = [row(lane) for lane in random.sample(range(6), random.randint(1, 4))]
            run(engine, rows)
            for one in rows:
                assert counted(one) == due[one.lane]
                due[one.lane] += 1
            longest = max(longest, *due)
        assert longest > 20


def test_a_lane_without_a_tenant_cannot_run() -> None:
    with engine_of(Mirror()) as engine:
        engine.open_lane(0, {}, {})
        with pytest.raises(LeaseError, match="lane 1 has no tenant"):
            engine.submit([row(0), row(1)], 4)
        engine.close_lane(0)
        with pytest.raises(LeaseError, match="lane 0 has no tenant"):
            engine.submit([row(0)], 4)
        assert engine.in_flight == 0


@pytest.mark.parametrize("model", [Tinted, Banked])
def test_each_lane_wears_its_own_identity_and_controls(model: type[AvatarModel]) -> None:
    with engine_of(model()) as engine:
        engine.open_lane(0, {"colour": torch.tensor([0.5, 0.5, 0.5])}, {})
        engine.open_lane(1, {"colour": torch.tensor([0.5, 0.5, 0.5])}, {"gain": 2.0})
        engine.open_lane(2, {}, {})
        rows = [row(2), row(0), row(1)]
        run(engine, rows)
        assert [luma(one) for one in rows] == pytest.approx([71, 126, 235], abs=1)
        engine.set_controls(1, {"gain": 0.0})
        run(engine, rows)
        assert [luma(one) for one in rows] == pytest.approx([71, 126, 16], abs=1)


@pytest.mark.parametrize("model", [Tinted, Banked])
def test_a_lane_s_identity_changes_between_two_batches(model: type[AvatarModel]) -> None:
    with engine_of(model()) as engine:
        for lane in (0, 1):
            engine.open_lane(lane, {"colour": torch.ones(3)}, {"gain": 0.5})
        rows = [row(0), row(1)]
        run(engine, rows)
        engine.set_identity(0, {"colour": torch.zeros(3)})
        with pytest.raises(ModelError, match=r"colour \(4,\) float32; due was colour \(3,\)"):
            engine.set_identity(1, {"colour": torch.ones(4)})
        run(engine, rows)
        assert [luma(one) for one in rows] == pytest.approx([16, 126], abs=1)


def test_a_new_tenant_gets_nothing_of_the_old_one() -> None:
    with engine_of(Tinted()) as engine:
        engine.open_lane(0, {"colour": torch.ones(3)}, {"gain": 0.8})
        engine.open_lane(0, {}, {})
        one = row(0)
        run(engine, [one])
        assert luma(one) == pytest.approx(71, abs=1)


def test_an_identity_of_another_model_is_refused_and_opens_nothing() -> None:
    with engine_of(Tinted()) as engine:
        with pytest.raises(ModelError, match=r"colour \(4,\) float32; due was colour \(3,\)"):
            engine.open_lane(0, {"colour": torch.ones(4)}, {})
        with pytest.raises(LeaseError):
            engine.submit([row(0)], 4)


def test_every_row_hears_how_long_its_lane_was_silent() -> None:
    model = Answering()
    with engine_of(model) as engine:
        open_all(engine)
        run(engine, [row(0, dt_s=0.5), row(1, dt_s=0.25)])
        assert model.dt_s[-1].tolist() == [0.5, 0.25, 0.25, 0.25]


# ------------------------------------------------------------------------ failures


def wrong(answer: Callable[[Tensor, Tensors], object]) -> str:
    with pytest.raises(ModelError) as caught, engine_of(Answering(answer)):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_shape_is_refused_at_warm_up_with_what_was_due() -> None:
    assert ("model answered (4, 3, 8, 16) float32; due was (4, 3, 16, 16) float32") in wrong(
        lambda frames, state: (frames[:, :, ::2], state)
    )
    assert "(2, 3, 16, 16) float32; due" in wrong(lambda frames, state: (frames[:2], state))


def test_a_wrong_type_is_refused_at_warm_up() -> None:
    assert "(4, 3, 16, 16) uint8; due was (4, 3, 16, 16) float32" in wrong(
        lambda frames, state: (frames.to(torch.uint8), state)
    )
    assert "answered a NoneType; due was (frames, state)" in wrong(lambda frames, state: None)
    assert "answered (4, 3, 16, 16) float32; due was (frames, state)" in wrong(
        lambda frames, state: frames
    )


def test_nan_and_another_range_are_refused_at_warm_up() -> None:
    assert "NaN or infinite among 3072" in wrong(lambda frames, state: (frames / 0, state))
    assert "due were values in [0, 1]" in wrong(lambda frames, state: (frames * 255, state))
    assert "due were values in [0, 1]" in wrong(lambda frames, state: (frames * 2 - 1, state))


def test_a_state_that_is_not_as_it_began_is_refused_at_warm_up() -> None:
    extra = {"more": torch.zeros(4, 2)}
    assert "the state more (4, 2) float32; due was empty" in wrong(
        lambda frames, state: (frames.clone(), extra)
    )
    assert "a state of NoneType" in wrong(lambda frames, state: (frames.clone(), None))


def test_a_model_that_raises_at_warm_up_is_told_in_one_line() -> None:
    def raises(frames: Tensor, state: Tensors) -> object:
        raise ValueError("no face\nand more")

    assert re.fullmatch(
        r"model failed on a batch of 4: ValueError: no face and more \(test_engine.py:\d+\): "
        r"mend its forward\(\)",
        wrong(raises),
    )


def test_a_model_whose_identity_raises_is_told_in_one_line() -> None:
    class Faceless(Tinted):
        def default_portrait(self) -> Tensor:
            raise OSError("no portrait.png")

    with pytest.raises(ModelError, match="model failed in identity: OSError: no portrait"):
        engine_of(Faceless()).__enter__()


def test_a_batch_that_fails_ends_alone_and_leaves_every_state_as_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stumbling(Counting):
        stumbles = False

        def forward(
            self,
            frames: Tensor,
            identity: Tensors,
            state: Tensors,
            controls: Tensors,
            dt_s: Tensor,
        ) -> tuple[Tensor, Tensors]:
            answer = super().forward(frames, identity, state, controls, dt_s)
            if self.stumbles:
                state["count"].zero_()
                raise RuntimeError("stumbled")
            return answer

    model = Stumbling()
    with engine_of(model) as engine, caplog.at_level(logging.ERROR):
        open_all(engine)
        run(engine, [row(0), row(1)])
        model.stumbles = True
        failed = row(0)
        for _ in range(3):
            done = run(engine, [failed])
            assert done.error == "RuntimeError: stumbled" and not done.out_of_memory
        assert (failed.slot_out == UNTOUCHED).all()
        model.stumbles = False
        after = [row(1), row(0)]
        assert run(engine, after).error is None
        assert [counted(one) for one in after] == [1, 1]
        assert len(caplog.records) == 1  # what repeats is told once a second


def test_running_out_of_memory_is_told_as_such() -> None:
    model = Answering()
    with engine_of(model) as engine:
        open_all(engine)
        model.answer = lambda frames, state: (torch.empty(1 << 50), state)
        done = run(engine, [row(0)])
        assert done.out_of_memory
        (event,) = engine.events()
        assert event.event_type == "out_of_memory" and event.severity == "error"
        assert engine.events() == ()


def test_a_batch_that_runs_out_of_memory_is_dropped_and_the_next_one_runs() -> None:
    model = Answering()
    with engine_of(model) as engine:
        open_all(engine)

        def starve(frames: Tensor, state: Tensors) -> object:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

        good = model.answer
        model.answer = starve
        dropped = row(0)
        for _ in range(3):
            done = run(engine, [dropped])
            assert done.out_of_memory and "Tried to allocate" in str(done.error)
        assert (dropped.slot_out == UNTOUCHED).all()
        model.answer = good
        after = row(0)
        assert run(engine, [after]).error is None and (after.slot_out == after.slot_in).all()
        (event,) = engine.events()  # what repeats is told once a second
        assert event.event_type == "out_of_memory" and event.data == {"batches": 1}


def test_what_a_failed_batch_had_computed_is_freed_without_the_collector() -> None:
    made: list[weakref.ref[Tensor]] = []

    def starve(frames: Tensor, state: Tensors) -> object:
        large = frames.repeat(8, 1, 1, 1)
        made.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = Answering()
    with engine_of(model) as engine:
        open_all(engine)
        model.answer = starve
        gc.collect()
        gc.disable()
        try:
            batch = engine.submit([row(0)], 4)
            assert made[-1]() is None
            done = engine.finished()
            assert done is not None and done.batch == batch
        finally:
            gc.enable()


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(`"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    ],
    ids=str,
)
def test_a_cuda_error_ends_the_engine_and_not_the_batch(error: RuntimeError) -> None:
    def fail(frames: Tensor, state: Tensors) -> object:
        raise error

    model = Answering()
    with engine_of(model) as engine:
        open_all(engine)
        model.answer = fail
        with pytest.raises(type(error), match=re.escape(str(error))):
            engine.submit([row(0)], 4)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
    ids=str,
)
def test_out_of_memory_is_the_one_that_is_survived(error: Exception) -> None:
    assert is_out_of_memory(error) and not is_fatal(error)


# -------------------------------------------------------------------- NaN at run time


class Smearing(AvatarModel):
    """Mixes each frame into a mean for ever, so what is once NaN would stay so."""

    def __init__(self) -> None:
        super().__init__()
        self.spoil: float | None = None  # what becomes of a frame darker than this one

    def initial_state(self) -> Tensors:
        return {
            "mean": torch.full((3, GEOMETRY.height, GEOMETRY.width), 0.5),
            "count": torch.zeros((), dtype=torch.int64),
        }

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        mean = 0.5 * state["mean"] + 0.5 * frames
        if self.spoil is not None:
            dark = frames[:, :, :1, :1] < 0.1
            spot = torch.zeros_like(frames)
            spot[:, 1, 7, 9] = 1.0  # a single value of one channel
            mean = torch.where(dark & (spot > 0), self.spoil, mean)
        return mean, {"mean": mean, "count": state["count"] + 1}


@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_fails_alone_and_its_session_begins_anew(
    value: float, fill: Fill
) -> None:
    model = Smearing()
    with engine_of(model, fill=fill) as engine:
        open_all(engine)
        spoiled, sound = [row(1, 20)], [row(0, 200), row(2, 150)]
        run(engine, [*spoiled, *sound])
        model.spoil = value
        done = run(engine, [sound[0], spoiled[0], sound[1]])
        assert done.error is None and done.unsound == (1,)
        model.spoil = None
        before = [luma(one) for one in sound]
        anew = row(1, 200)
        done = run(engine, [sound[1], anew, sound[0]])
        assert done.unsound == ()
        assert luma(anew) == pytest.approx((16 + 0.5 * 219 + 200) / 2, abs=1)  # from the grey
        assert engine._banks.state["count"][:3].tolist() == [3, 1, 3]
        due = [
            (value + int(one.slot_in[0, 0])) / 2 for value, one in zip(before, sound, strict=True)
        ]
        assert [luma(one) for one in sound] == pytest.approx(due, abs=1)
        (event,) = engine.events()
        assert (event.event_type, event.severity) == ("frames_unsound", "error")
        assert event.data == {"frames": 1, "lane": 1}


def test_rows_that_stay_unsound_are_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    model = Smearing()
    with engine_of(model) as engine, caplog.at_level(logging.ERROR):
        open_all(engine)
        model.spoil = math.nan
        for _ in range(20):
            assert run(engine, [row(0, 20), row(1, 200), row(2, 20)]).unsound == (0, 2)
        assert len(caplog.records) == len(engine.events()) == 1


def test_no_more_batches_are_in_flight_than_there_are_buffers() -> None:
    with engine_of(Mirror()) as engine:
        open_all(engine)
        assert [engine.submit([row(0)], 4), engine.submit([row(1)], 4)] == [1, 2]
        assert engine.in_flight == 2
        with pytest.raises(AssertionError, match="take what is finished first"):
            engine.submit([row(2)], 4)
        batches = [engine.finished(), engine.finished()]
        assert [done.batch for done in batches if done] == [1, 2]
        assert engine.finished() is None


# ------------------------------------------------------------------- warm-up, figures


def test_warm_up_beats_after_every_batch_and_says_what_it_found() -> None:
    model, beats = Answering(), []
    with Engine(
        model,
        geometry=GEOMETRY,
        batch_sizes=(1, 4),
        device=CPU,
        fill=Fill.LAST,
        max_sessions=4,
        compile=False,
        arena=None,
    ) as engine:
        found: WarmUp = engine.warm_up(lambda: beats.append(len(model.frames)))
        assert len(beats) == 18 and beats == sorted(set(beats))  # (4 + 5) × 2, one frame each
        assert found.step_ms > 0 and found.device_name and found.device_uuid is None
        assert found.warnings == () and not engine.captured and engine.doorbell_fd is None
        assert engine.filled == 0 and engine.in_flight == 0 and len(engine.recent) == 0
        assert engine.finished() is None


def test_memory_is_the_process_s_own_without_cuda() -> None:
    with engine_of(Mirror()) as engine:
        open_all(engine)
        done = run(engine, [row(0)])
        assert done.before.rss_bytes == pytest.approx(rss_bytes(), rel=0.2)
        assert done.after.taken_s >= done.before.taken_s
        assert done.after.allocated_bytes is None
        memory = engine.memory()
        assert memory.rss_bytes == pytest.approx(rss_bytes(), rel=0.2)
        assert memory.reserved_bytes is None and memory.new_device_allocations is None
        assert min(done.copy_in_ms, done.compute_ms, done.copy_out_ms) >= 0
        assert done.compute_ms > 0


class Smooth(AvatarModel):
    """Enough for inductor to make a kernel of."""

    def initial_state(self) -> Tensors:
        return {"last": torch.zeros(3, GEOMETRY.height, GEOMETRY.width)}

    def forward(
        self, frames: Tensor, identity: Tensors, state: Tensors, controls: Tensors, dt_s: Tensor
    ) -> tuple[Tensor, Tensors]:
        smooth = (0.5 * frames + 0.5 * state["last"]).clamp(0, 1)
        return smooth, {"last": smooth}


def ragged(engine: Engine) -> None:
    for real in (4, 3, 1, 2, 4, 1):
        assert run(engine, [row(lane) for lane in range(real)]).error is None


def test_compiled_nothing_is_compiled_again_however_short_the_batches() -> None:
    with engine_of(Smooth(), compile=True) as engine:
        open_all(engine)
        ragged(engine)
        assert engine.recompilations == 0 and engine.shapes == 1
        assert engine.events() == ()


def test_and_without_the_fill_it_is() -> None:
    with engine_of(Smooth(), compile=True, fill=None) as engine:
        open_all(engine)
        ragged(engine)
        assert engine.recompilations >= 1 and engine.shapes == 4
        assert {event.event_type for event in engine.events()} == {"recompiled"}
        assert engine.filled == 0
