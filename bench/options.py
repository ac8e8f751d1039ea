"""Options that several commands have, and what their values may be.

In: what was typed. Out: values, or click's errors and a SlipformError that name what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from slipform.pipelines.errors import SlipformError

data_argument = click.argument("data", type=click.Path(path_type=Path))
data_arguments = click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
quick_option = click.option(
    "--quick",
    is_flag=True,
    help="In a minute: short repeats, usual settings instead of a search.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where to write the JSON. [runs/bench/SUITE.json]",
)
device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu or cuda."
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
)


def device_name(name: str) -> str:
    """The device to measure on.

    Args:
        name: "auto", "cpu" or "cuda".

    Returns:
        "cuda" or "cpu".

    Raises:
        SlipformError: This machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise SlipformError(
            f'device "{name}" is not here: give auto or'
            f" cpu{' or cuda' if torch.cuda.is_available() else ''}"
        )
    return name


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers above 0.

    Args:
        text: "16,64".
        option: Its name, for the message.

    Returns:
        The numbers.

    Raises:
        click.BadParameter: It is something else.
    """
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise click.BadParameter(
            f'"{text}": give whole numbers above 0, separated by commas, for example 16,64',
            param_hint=option,
        )
    return found


def typed() -> set[str]:
    """The options that were given on the command line, not by default."""
    context = click.get_current_context()
    return {
        name
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "")
        is click.core.ParameterSource.COMMANDLINE
        for name in parameter.opts
    }


def check_names(option: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Check that only allowed names were given.

    Args:
        option: The option's name, for the message.
        given: The names.
        allowed: All that may be given.

    Raises:
        click.BadParameter: One of them is not allowed.
    """
    for name in given:
        if name not in set(allowed):
            raise click.BadParameter(
                f'"{name}": give some of {", ".join(allowed)}', param_hint=option
            )
