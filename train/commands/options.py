"""Shared parts of the commands: the type of a folder, the option --device, who prints."""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["FOLDER", "device_option", "is_main"]

FOLDER = click.Path(file_okay=False, path_type=Path)
device_option = click.option(
    "--device", default="auto", help="auto, cpu, cuda or cuda:N.", show_default=True
)


def is_main() -> bool:
    """Whether this process prints: the one to which torchrun gave rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"
