"""One screen on one model: inspected, run through the real worker, judged."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

import click

from stream.capacity import frames_s_carried
from stream.check import codec_bound
from stream.check.bound import FPS, SAFE, is_too_long, sessions
from stream.check.codec_bound import USABLE, CodecCost, cores_here
from stream.check.saturation import LANES_A_ROW, Saturated, saturate
from stream.codecs import Codec
from stream.progress import Progress
from stream.supervisor import environment_for
from stream.telling import tellings
from workers.errors import ModelError, SettingsError
from workers.geometry import Geometry
from workers.inspection_messages import INSPECTIONS, Inspected, Unfit
from workers.messages import WorkerSpec

USUAL_BATCHES = (1, 4, 16)
MOST_BATCH = 256 // LANES_A_ROW
READY, NOT_READY = 0, 1
COLUMNS, INDENT = 100, 10


def show(spec: WorkerSpec, seconds: int) -> int:
    """Measures, prints, and gives the exit code. Raises OmokageError."""
    with Progress() as progress:
        progress("inspecting: loading the model, one run, rehearsal")
        inspected = inspect(spec)
        asked = spec.batch_sizes or (
            USUAL_BATCHES if inspected.batch_size is None else (inspected.batch_size,)
        )
        if asked[-1] > MOST_BATCH:
            raise SettingsError(
                f"--batch {asked[-1]} is more than can be measured: pass at most {MOST_BATCH}"
            )
        # The inspection's word, so that each worker runs at the very same size.
        settled = replace(spec, geometry=Geometry.parse(inspected.geometry))
        found = []
        for batch in asked:

            def beat(doing: str, batch: int = batch) -> None:
                progress(f"batch {batch}: {doing}")

            found.append(saturate(settled, batch, seconds, beat))
        progress("codecs: decoding and encoding")
        codecs = [codec_bound.measure(codec, Geometry.parse(inspected.geometry)) for codec in Codec]
    verdict = judge(inspected, found)
    for line in screen(spec, inspected, found, codecs):
        click.echo(line)
    click.echo("\n" + textwrap.fill(verdict, COLUMNS))
    return READY if is_ready(inspected, found) else NOT_READY


def inspect(spec: WorkerSpec) -> Inspected:
    """Raises ModelError for a model that cannot be loaded or run."""
    batch = max(spec.batch_sizes or (2,))
    words = ["--device", spec.device, "--batch", str(batch)]
    words += ["--geometry", str(spec.geometry)] if spec.geometry else []
    for told in tellings(
        "workers.inspection", [*words, "--", spec.model], INSPECTIONS, environment_for(spec)
    ):
        match told:
            case Inspected():
                return told
            case Unfit(why):
                raise ModelError(why)
    raise AssertionError("an inspection tells of one or the other")


def is_ready(inspected: Inspected, found: Sequence[Saturated]) -> bool:
    return inspected.is_capturable and any(_bound(it) for it in found)


def judge(inspected: Inspected, found: Sequence[Saturated]) -> str:
    """In one sentence: ready, or what is in the way."""
    best = max(found, key=_bound)
    if not inspected.is_capturable:
        return (
            f"not ready: {inspected.verdict}; a worker would run it without a graph, slower. "
            "Mend that operation"
        )
    if not _bound(best):
        return (
            f"not ready: no batch size keeps up with one session of {FPS} frames/s on this device: "
            "a smaller --geometry, a lighter model or a faster device would"
        )
    with_words = f", with {len(inspected.warnings)} warnings" if inspected.warnings else ""
    return f"ready{with_words}: {_bound(best)} sessions at batch {best.batch} on this device"


# ------------------------------------------------------------------- the screen


def screen(
    spec: WorkerSpec, inspected: Inspected, found: Sequence[Saturated], codecs: Sequence[CodecCost]
) -> Iterator[str]:
    threads = f", {spec.threads or 1} thread{'s' if (spec.threads or 1) > 1 else ''}"
    on_cpu = inspected.device == "cpu"
    yield (
        f"{spec.model} at {inspected.geometry} on {inspected.device} "
        f"({inspected.device_name}{threads if on_cpu else ''})"
        f"{', through torch.compile' if spec.compile else ''}"
    )
    yield ""
    yield _line("frames", f"{inspected.takes}, values 0 to 1")
    yield _line("avatars", f"{inspected.gives}, values {inspected.low:g} to {inspected.high:g}")
    banks = ", read as whole banks" if inspected.reads_banks and inspected.identity else ""
    yield _line("identity", _named(inspected.identity) + banks)
    yield _line("state", _named(inspected.state))
    yield _line("controls", _controls(inspected))
    yield _line(
        "weights", f"{inspected.parameters:,} parameters, {inspected.weight_bytes / 1e6:.1f} MB"
    )
    yield _line("capture", inspected.verdict)
    for warning in inspected.warnings:
        yield _line("", f"warning: {warning}")
    yield ""
    spread = "ms a batch: median [least to most]"
    yield f"batch  {spread:36}{'frames/s':>9}{'memory':>10}  device's bound"
    for it in found:
        yield _measured(it)
    yield from _notes(found, on_cpu)
    yield ""
    yield from _codecs(codecs, on_cpu)


def _line(name: str, text: str) -> str:
    """With what does not fit below it."""
    return textwrap.fill(
        text, COLUMNS, initial_indent=f"{name:{INDENT}}", subsequent_indent=" " * INDENT
    )


def _named(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name} {said}" for name, said in tensors.items()) or "none"


def _controls(inspected: Inspected) -> str:
    said = [
        f"{name} {low:g} to {high:g} (default {default:g})"
        for name, (low, high, default) in inspected.controls.items()
    ]
    return ", ".join(said) or "none"


def _bound(it: Saturated) -> int:
    return sessions(it.frames_s, it.batch)


def _measured(it: Saturated) -> str:
    spread = (
        f"{it.batch_ms:.3g} [{min(it.batches_ms):.3g} to {max(it.batches_ms):.3g}] "
        f"n={len(it.batches_ms)}"
    )
    why = ""
    if is_too_long(it.frames_s, it.batch):
        why = f": a batch takes {1e3 * it.batch / it.frames_s:.0f} ms"
    graph = ", replayed from a graph" if it.is_captured else ""
    return (
        f"{it.batch:5}  {spread:36}{it.frames_s:9,.0f}{it.memory_bytes / 1e6:7,.0f} MB  "
        f"{_bound(it)} sessions{why}{graph}"
    )


def _notes(found: Sequence[Saturated], on_cpu: bool) -> Iterator[str]:
    kind = "the worker's RSS" if on_cpu else "what CUDA's allocator has reserved"
    yield f"       Full batches through ring, batcher, engine and ring. Memory: {kind}."
    yield f"       Bound: {SAFE:.0%} of these frames/s, {FPS} for each session."
    if any(is_too_long(it.frames_s, it.batch) for it in found):
        yield (
            f"       A session has a frame every {1000 // FPS} ms and one in a batch: a batch that "
            "takes longer loses some."
        )


def _codecs(codecs: Sequence[CodecCost], on_cpu: bool) -> Iterator[str]:
    cores = cores_here()
    for it in codecs:
        yield _line(
            it.codec.value,
            f"decode {it.decode_ms:.2f} + encode {it.encode_ms:.2f} ms a frame: "
            f"{it.sessions_a_core:.1f} sessions a core, {it.sessions(cores)} here "
            f"({USABLE:.0%} of {cores} core{'s' if cores > 1 else ''})",
        )
    shared = "; on a CPU the worker takes its cores from them" if on_cpu else ""
    yield _line("", f"The codecs' bound is the CPU's, apart from the device's{shared}.")
    yield _line(
        "", f"One server's event loop carries about {frames_s_carried() // FPS} sessions at best."
    )
