"""The command `omokage check`."""

from __future__ import annotations

import click

from stream import values
from stream.options import device_option, geometry_option, read_option, threads_option
from workers.geometry import Geometry
from workers.messages import Fill, WorkerSpec

EPILOG = """\b
The device's bound is measured through the real worker: frames from shared
memory, batched, run and back, without any network. The codecs' bound stands
apart: it is the CPU's, and each session needs both.

\b
Exit codes: 0 ready, 1 not ready (it would not capture, or no batch size keeps
up with one session), 2 the model cannot run at all.

\b
Examples:
  omokage check toon
  omokage check my_package.my_module:make_avatar --batch 1,4,16
  omokage check avatar.pt2 --device cuda --geometry 512x512
"""


@click.command(
    "check",
    short_help="Is this model ready, and for how many sessions?",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("model")
@device_option
@geometry_option
@click.option(
    "--batch",
    "batch_sizes",
    default=None,
    metavar="N[,N...]",
    help="Measure batches of these sizes, each by itself.  [default: the model's own, else 1,4,16]",
)
@threads_option
@click.option("--compile", is_flag=True, help="Run the model through torch.compile.")
@click.option("--seconds", default="3", metavar="N", show_default=True,
              help="Measure each batch size for so long, after its warm-up.")  # fmt: skip
def check(
    model: str,
    device: str,
    geometry: str | None,
    batch_sizes: str | None,
    threads: str | None,
    compile: bool,
    seconds: str,
) -> int:
    """Is MODEL ready to serve? One screen: what it takes and gives, whether its step captures as a
    CUDA graph (and which operation would not), time and memory of each batch size, and how many
    sessions of 25 frames/s the device and the codecs bear.

    MODEL: puppet, toon, mirror, package.module:factory, or a torch.export file (.pt2).
    """
    spec = WorkerSpec(
        index=0,
        model=read_option("MODEL", model, values.model),
        device=read_option("--device", device, values.device),
        geometry=None if geometry is None else Geometry.parse(geometry),
        batch_sizes=None
        if batch_sizes is None
        else read_option("--batch", batch_sizes, values.batch_sizes),
        max_wait_s=0.008,
        fill=Fill.LAST,
        max_sessions=1,
        threads=None
        if threads is None
        else read_option("--threads", threads, values.whole(1, 1024)),
        compile=compile,
    )
    for_s = read_option("--seconds", seconds, values.whole(1, 600))
    # Here, for the same reason as with `serve`: --help need not wait for imports.
    from stream.check.show import show

    return show(spec, for_s)
