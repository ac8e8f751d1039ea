"""Shared parts of the commands: types of folders, the option --device, who prints, and commands
that have --set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from slipform.pipelines.command import Command
from slipform.pipelines.remote.client import is_remote

__all__ = ["DATASET", "FOLDER", "SettingsCommand", "device_option", "is_main"]

FOLDER = click.Path(file_okay=False, path_type=Path)


class _Dataset(click.Path):
    """A dataset folder as a Path, or its URL in an object store as text."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if is_remote(value) else super().convert(value, param, ctx)


DATASET = _Dataset(file_okay=False, path_type=Path)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="The device: auto (a GPU if there is one), cpu, cuda or cuda:N.",
)


def is_main() -> bool:
    """Whether this process prints: the one to which torchrun gave rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


class SettingsCommand(Command):
    """A command with --set. An unknown option that is a setting is answered with that setting."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Command`.

        Args:
            ctx: The context of click.
            args: The arguments.
        """
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            fitting = _settings_named(error.option_name.lstrip("-").replace("-", "_"))
            if not fitting:
                raise
            words = " or ".join(f"--set {name}=VALUE" for name in fitting)
            message = f"No such option {error.option_name!r}. It is a setting: {words}."
            raise click.UsageError(message, error.ctx) from None


def _settings_named(name: str) -> list[str]:
    """The settings with this name in any section, or the name of the thing that a section has."""
    from slipform.train.config.settings import settings  # imports pydantic

    names = [one.name for one in settings()]
    return [one for one in names if one.endswith(f".{name}") or one == f"{name}.name"]
