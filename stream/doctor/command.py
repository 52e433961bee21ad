"""The command `omokage doctor`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from stream.options import SettingsCommand, Typed, chosen_settings, settings_options

NOT_READY = 1

EPILOG = """\b
Takes the settings of `omokage serve`, from the same flags, variables and file,
so that what is examined is what would be served. Each finding is ok, a warning
(it serves, with less) or an error, with its mend. It starts nothing that stays.

\b
Exit codes: 0 ready, 1 an error was found, 2 a setting is wrong.
"""


def _doctor(config: Path | None, as_json: bool, **flags: Typed) -> int:
    settings = chosen_settings(config, flags)
    # Here, for the same reason as with `serve`: --help need not wait for imports.
    from stream.doctor import report
    from stream.doctor.examination import examine

    findings = asyncio.run(examine(settings))
    click.echo(report.as_json(findings) if as_json else "\n".join(report.as_lines(findings)))
    return 0 if report.is_ready(findings) else NOT_READY


doctor = SettingsCommand(
    "doctor",
    callback=_doctor,
    params=[
        *settings_options(),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the findings as JSON."),
    ],
    help="Is this machine ready to serve with these settings? Names what is not, and its mend.",
    epilog=EPILOG,
    short_help="Is this machine ready? Each finding with its mend.",
)
