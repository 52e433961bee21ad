"""The command `omokage`: what was typed becomes settings, what went wrong one line."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import click

from stream.check.command import check
from stream.doctor.command import doctor
from stream.memory.command import memory
from stream.options import SettingsCommand, Typed, chosen_settings, settings_options
from workers.errors import OmokageError, WorkerLost

FAILED = 1
REFUSED = 2
INTERRUPTED = 130

EPILOG = """\b
Each setting is also a variable (OMOKAGE_MAX_WAIT_MS=8) and a key of the TOML
file (max_wait_ms = 8); a flag wins over a variable, a variable over the file.
Several values of one go into one variable with spaces between, and into the
file as a list: allowed_host = ["a.example", "b.example"].

\b
Examples:
  omokage serve
  omokage serve --model mirror --batch 4 --geometry 512x512
  omokage serve --model my_package.my_module:make_avatar --max-sessions 32
  omokage serve --rtsp door=rtsp://camera.example/stream
  omokage serve --https                     (for a phone on the same network)
  OMOKAGE_TOKEN=... omokage serve --host 0.0.0.0 --allowed-host box.example
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code: 2 where a user can mend what went wrong."""
    try:
        code: int | None = omokage.main(args=argv, prog_name="omokage", standalone_mode=False)
    except click.Abort:  # Ctrl-C, before the server took it over
        return INTERRUPTED
    except click.ClickException as error:
        return _refuse(_with_mend(error))
    except WorkerLost as error:
        _refuse(str(error))
        return FAILED
    except OmokageError as error:
        return _refuse(str(error))
    except BaseExceptionGroup as group:
        mendable = _mendable(group)
        if mendable is None:
            raise
        return _refuse(str(mendable))
    return code or 0


def run() -> NoReturn:
    """The command as a process: its exit code is the last thing that happens."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # No interpreter teardown: a camera's thread may be inside FFmpeg for its timeout yet, and
    # modules that are taken apart under it were a segmentation fault.
    os._exit(code)


def version() -> str:
    try:
        return metadata.version("omokage")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "0+source"


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version(), prog_name="omokage", message="%(prog)s %(version)s")
@click.pass_context
def omokage(ctx: click.Context) -> None:
    """Turns live video into live avatar video: many sessions, one GPU, flat memory."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _serve(config: Path | None, **flags: Typed) -> int:
    settings = chosen_settings(config, flags)
    # Here, so that --help and a wrong flag need not wait for half a second of imports.
    from stream.app import serve

    return asyncio.run(serve(settings))


omokage.add_command(
    SettingsCommand(
        "serve",
        callback=_serve,
        params=settings_options(),
        help=(
            "Serves the page, WHIP, WHEP and the API, turns every session into its avatar, "
            "and tells over MQTT what the memory does."
        ),
        epilog=EPILOG,
        short_help="Turn cameras into avatars, live.",
    )
)
omokage.add_command(doctor)
omokage.add_command(check)
omokage.add_command(memory)


def _with_mend(error: click.ClickException) -> str:
    """What click says, and where it knows no mend, who names all that may be typed."""
    message = error.format_message().rstrip(".")
    if "Did you mean" in message or not isinstance(error, click.UsageError):
        return message
    command = error.ctx.command_path if error.ctx else "omokage serve"
    return f"{message}: `{command} --help` names what there is"


def _mendable(group: BaseExceptionGroup[BaseException]) -> OmokageError | None:
    """What a user can mend, where nothing else went wrong beside it."""
    mendable, rest = group.split(OmokageError)
    if rest is not None or mendable is None:
        return None
    first: BaseException = mendable
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, OmokageError)
    return first


def _refuse(message: str) -> int:
    click.echo(f"omokage: {' '.join(message.split())}", err=True)
    return REFUSED
