"""What the commands' options are: their flags, their help, and the values they become."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from stream.settings import (
    CONFIG_VARIABLE,
    Group,
    Setting,
    Settings,
    read_settings,
    settings_table,
)
from workers.errors import SettingsError

Typed = str | tuple[str, ...] | None

# Of the commands that try a model without serving it.
device_option = click.option(
    "--device",
    default="auto",
    metavar="DEVICE",
    show_default=True,
    help="auto, cpu, cuda or cuda:N; auto takes CUDA where it is.",
)
geometry_option = click.option(
    "--geometry",
    metavar="WxH",
    help="Run at this size.  [default: the model's own, else 512x512 on CUDA, 256x256 on a CPU]",
)
threads_option = click.option(
    "--threads",
    metavar="N",
    help="Use so many CPU threads.  [default: one on a CPU, else what torch takes]",
)

T = TypeVar("T")


class SettingsCommand(click.Command):
    """`--help` under the settings' own headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {it.name: it.group for it in settings_table()}
        for group in [*Group, None]:
            records = [
                record
                for param in self.get_params(ctx)
                if groups.get(param.name or "") is group and (record := param.get_help_record(ctx))
            ]
            with formatter.section(group.value if group else "Other"):
                formatter.write_dl(records)


def settings_options() -> list[click.Parameter]:
    """A flag for each setting, and `--config`."""
    return [
        *map(_option, settings_table()),
        click.Option(
            ["--config", "config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"Read settings from this TOML file.  [default: {CONFIG_VARIABLE}, if set]",
        ),
    ]


def chosen_settings(config: Path | None, flags: dict[str, Typed]) -> Settings:
    """What was typed, over variables, over the file. Raises SettingsError."""
    given = {
        name: (value,) if isinstance(value, str) else value
        for name, value in flags.items()
        if value is not None
    }
    return read_settings(given, os.environ, config)


def read_option(flag: str, text: str, parse: Callable[[str], T]) -> T:
    """The value of one option that is no setting. Raises SettingsError."""
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{flag} {text[:80]} {error}") from None


def _option(it: Setting) -> click.Option:
    default = f"  [default: {it.default}]" if it.default else ""
    names, about = [it.flag, it.name], it.help + default
    if it.metavar is None:
        return click.Option(names, flag_value="true", is_flag=True, type=str, help=about)
    return click.Option(names, multiple=it.many, type=str, metavar=it.metavar, help=about)
