"""What the experiment means for this one model, in sentences that its figures bear out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from stream.memory.findings import (
    NOTEWORTHY_BYTES,
    STILL_BYTES,
    Arm,
    Experiment,
    either,
    megabytes,
    milliseconds,
)
from workers.experiment_messages import Last, Start, Stretch

ALIKE = 0.05  # of a whole batch: a fill that costs less costs nothing


@dataclass(frozen=True, slots=True)
class Story:
    headline: str
    paragraphs: tuple[str, ...]


def tell(it: Experiment) -> Story:
    """Every experiment whose whole batches ran has one; a ragged one that fails is part of it."""
    first, spares = _first_batch(it)
    last, prevents = _last_batch(it)
    paragraphs = (first, last, _shapes(it), _what_it_is_not(it))
    return Story(f"{spares} {prevents}", tuple(text for text in paragraphs if text))


# ------------------------------------------------------------------ the first


def _first_batch(it: Experiment) -> tuple[str, str]:
    """The paragraph, and its half of the headline."""
    cold, warm = it.of(Start.COLD), it.of(Start.WARM)
    firsts, warm_firsts = _firsts(cold), _firsts(warm)
    slow = [arm.is_slow(stretch) for arm, stretch in zip(cold, firsts, strict=True)]
    usual_ms = median(stretch.took_ms for arm in cold for stretch in arm.usual)
    times = mean(stretch.took_ms for stretch in firsts) / usual_ms
    grows = min(stretch.grown_bytes for stretch in firsts) >= NOTEWORTHY_BYTES
    said = [f"With a cold start the first batch took {_took(firsts)}, where the others take "
            f"{milliseconds(usual_ms)}"]  # fmt: skip
    if all(slow):
        said[0] += f": {_times(times)} as long."
    elif any(slow):
        said[0] += ": slower in one of the two runs only, so measure again on a quiet machine."
    else:
        said[0] += ": for this model the first batch is not slower."
    said.append(
        f"The memory grew by {_grown(firsts)} meanwhile." if grows
        else f"The memory grew by {_grown(firsts)} meanwhile, which is next to nothing."
    )  # fmt: skip
    if it.on_cuda:
        said.append(f"It made {_count(firsts, 'device_allocations')} device allocations.")
    if compiled := max(stretch.compiled_graphs for stretch in firsts):
        said.append(f"In it torch.compile made {_graphs(compiled)}.")
    said.append(
        f"After a warm-up at exactly this shape ({_warm_up(warm)}) the first batch took "
        f"{_took(warm_firsts)}, and the memory {_grew(warm_firsts)}."
    )
    still = [arm.is_slow(stretch) for arm, stretch in zip(warm, warm_firsts, strict=True)]
    if any(still):
        said.append(
            "That is slower than the batches after it in "
            f"{'both runs' if all(still) else 'one of the two runs'}, warm-up or not."
        )
    return " ".join(said), _spares(slow, still, times, grows, firsts)


def _spares(
    slow: Sequence[bool], still: Sequence[bool], times: float, grows: bool, firsts: list[Stretch]
) -> str:
    grown = megabytes(median(it.grown_bytes for it in firsts))
    if all(slow) and all(still):
        return f"The first batch takes {_times(times)} as long as the others, warm-up or not."
    if all(slow):
        growth = f", and takes {grown} of memory" if grows else ""
        return (
            f"Warm up: cold, the first batch takes {_times(times)} as long as the others{growth}."
        )
    if any(slow):
        growth = f"takes {grown} of memory, and " if grows else ""
        return f"Cold, the first batch {growth}may take longer: there the two runs disagree."
    if grows:
        return (
            f"Cold, the first batch takes {grown} of memory, but no more time than the others: "
            "warm-up only takes that memory earlier."
        )
    return "The first batch is as good as any other here: warm-up spares next to nothing."


def _warm_up(warm: Sequence[Arm]) -> str:
    runs = len(warm[0].warm_up) - warm[0].captures
    took = either([milliseconds(arm.warm_up_ms) for arm in warm])
    grew = either([megabytes(arm.warm_up_bytes) for arm in warm])
    captured = " and the capture of a CUDA graph" if warm[0].captures else ""
    return f"{runs} runs{captured}: {took}, {grew}"


# ------------------------------------------------------------------- the last


def _last_batch(it: Experiment) -> tuple[str, str]:
    ragged, filled = it.of(last=Last.RAGGED), it.of(last=Last.FILLED)
    whole_ms = median(stretch.took_ms for arm in it.arms for stretch in arm.usual)
    closings = _closings(filled)
    fill_rows = it.batch - it.short
    filled_said = (
        f"Filled with {fill_rows} copies of its last frame it took {_took(closings)}, "
        f"and the memory {_grew(closings)}."
    )
    if failures := [arm.failure for arm in ragged if arm.failure]:
        return (
            f"The last batch holds {it.short} of {it.batch} frames. Run as short as it is, it "
            f"fails: {failures[0]}. {filled_said}",
            "It takes whole batches only: a short one must be filled.",
        )
    shorts = _closings(ragged)
    said = [
        f"The last batch holds {it.short} of {it.batch} frames. Run as short as it is, it took "
        f"{_took(shorts)}, and the memory {_grew(shorts)}.",
        filled_said,
    ]
    if troubles := _troubles(it, ragged, shorts):
        said.insert(1, f"Being short, it {_list(troubles)}.")
        if relapses := _troubles(it, filled, closings):
            said.append(f"Yet it, too, {_list(relapses)}: filling did not prevent everything.")
    cost_ms = mean(s.took_ms for s in closings) - mean(s.took_ms for s in shorts)
    if not troubles and not it.is_steady:
        said.append(_unsteady(it))
        return " ".join(said), "What filling costs, these runs do not tell; it prevents nothing."
    is_free = cost_ms <= ALIKE * whole_ms
    verdict = _prevents(troubles, cost_ms, is_free=is_free)
    if not troubles:
        said.append(_price(it, cost_ms, is_free=is_free))
    return " ".join(said), verdict


def _prevents(troubles: Sequence[str], cost_ms: float, *, is_free: bool) -> str:
    if troubles and cost_ms < 0:
        return (
            f"Fill the last batch: short, it {_list(troubles)}, and took "
            f"{milliseconds(-cost_ms)} longer than filled."
        )
    if troubles:
        return f"Filling the last batch costs {milliseconds(cost_ms)}; short, it {_list(troubles)}."
    if not is_free:
        return f"Filling the last batch costs {milliseconds(cost_ms)} and prevents nothing here."
    return "Filling the last batch costs nothing here, and prevents nothing."


def _price(it: Experiment, cost_ms: float, *, is_free: bool) -> str:
    """Where a short batch made no trouble: what filling it is, then."""
    if is_free:
        return "Short or filled, it makes no difference here."
    on_a_cpu = (
        ""
        if it.on_cuda
        else ": on a CPU a fill row costs what a frame costs, which is why "
        "`omokage serve` runs batches of 1 there unless told otherwise"
    )
    return (
        f"So filling costs {milliseconds(cost_ms)} for each short batch, and nothing that was "
        f"measured was any better for it{on_a_cpu}."
    )


def _unsteady(it: Experiment) -> str:
    usual = sorted(arm.usual_ms for arm in it.arms)
    return (
        f"A usual batch took from {milliseconds(usual[0])} in one run to "
        f"{milliseconds(usual[-1])} in another, though they do the same: the machine had other "
        "work, and what filling costs cannot be told. Measure again on a quiet one."
    )


def _troubles(it: Experiment, arms: Sequence[Arm], closings: Sequence[Stretch]) -> list[str]:
    """What both runs saw in their last batch, and a usual batch does not have."""
    found = []
    if graphs := min(stretch.compiled_graphs for stretch in closings):
        found.append(f"made torch.compile build {_graphs(graphs)} more")
    if it.on_cuda and min(stretch.device_allocations or 0 for stretch in closings):
        found.append(f"made {_count(closings, 'device_allocations')} new device allocations")
    if retries := max(stretch.alloc_retries or 0 for stretch in closings):
        found.append(f"made the allocator give back and ask again {retries} times")
    if all(arm.is_slow(stretch) for arm, stretch in zip(arms, closings, strict=True)):
        times = mean(s.took_ms / arm.usual_ms for arm, s in zip(arms, closings, strict=True))
        found.append(f"took {_times(times)} the time of a whole one")
    if min(stretch.grown_bytes for stretch in closings) >= NOTEWORTHY_BYTES:
        found.append(f"took {_grown(closings)} more memory")
    warm = [stretch for arm, stretch in zip(arms, closings, strict=True) if arm.captures]
    if warm and not any(stretch.is_replay for stretch in warm):
        found.append("had no CUDA graph of its size to replay")
    return found


# -------------------------------------------------------------------- beside


def _shapes(it: Experiment) -> str:
    counted = [arm.shapes for arm in it.arms if arm.shapes is not None]
    if not counted or not counted[0].whole or any(arm.failure for arm in it.arms):
        return ""
    doing = (
        "cuDNN tunes each once, the first time it runs"
        if it.on_cuda
        else "on a CPU oneDNN makes a kernel for each the first time it runs; cuDNN would tune it"
    )
    whole, short = counted[0].whole, counted[0].short
    return (
        f"The model has {whole} distinct convolution{'s' if whole > 1 else ''} at a whole batch, "
        f"and at a short one {short or 'none'} that a whole one does not have: {doing}."
    )


def _what_it_is_not(it: Experiment) -> str:
    if it.on_cuda:
        uncaptured = next((arm.uncaptured for arm in it.arms if arm.uncaptured), None)
        return f"No CUDA graph was captured: {uncaptured}." if uncaptured else ""
    return (
        "This ran on a CPU. Figures of the CUDA allocator (device allocations, retries), of "
        "cuDNN's tuning and of graphs need CUDA; what is shown instead is the process's resident "
        "memory and its page faults: pages that the kernel hands out at their first touch."
    )


# --------------------------------------------------------------------- words


def _firsts(arms: Sequence[Arm]) -> list[Stretch]:
    return [arm.first for arm in arms if arm.first is not None]


def _closings(arms: Sequence[Arm]) -> list[Stretch]:
    return [arm.closing for arm in arms if arm.closing is not None]


def _took(stretches: Sequence[Stretch]) -> str:
    return either([milliseconds(stretch.took_ms) for stretch in stretches])


def _grew(stretches: Sequence[Stretch]) -> str:
    if all(abs(stretch.grown_bytes) < STILL_BYTES for stretch in stretches):
        return "did not grow"
    return f"grew by {_grown(stretches)}"


def _grown(stretches: Sequence[Stretch]) -> str:
    return either([megabytes(stretch.grown_bytes) for stretch in stretches])


def _count(stretches: Sequence[Stretch], name: str) -> str:
    return either([str(getattr(stretch, name)) for stretch in stretches])


def _times(times: float) -> str:
    return f"{times:.0f} times" if times >= 9.95 else f"{times:.1f} times"


def _graphs(count: int) -> str:
    return f"{count} graph{'s' if count > 1 else ''}"


def _list(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]
