"""Shared parts of the commands: the type of a folder, the option --device."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["FOLDER", "device_option"]

FOLDER = click.Path(file_okay=False, path_type=Path)
device_option = click.option(
    "--device", default="auto", help="auto, cpu, cuda or cuda:N.", show_default=True
)
