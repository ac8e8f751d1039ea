"""What the commands of this folder have in common: the type of a folder, the option --device."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(file_okay=False, path_type=Path)
device_option = click.option(
    "--device", default="auto", help="auto, cpu, cuda or cuda:N.", show_default=True
)
