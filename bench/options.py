"""Options of several commands, and checks of their values.

In: values from the command line. Out: checked values, or errors that name the allowed ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from slipform.pipelines.errors import SlipformError

__all__ = [
    "check_names",
    "data_argument",
    "data_arguments",
    "device_name",
    "device_option",
    "dtype_option",
    "numbers",
    "out_option",
    "quick_option",
    "typed",
    "words",
]

data_argument = click.argument("data", type=click.Path(path_type=Path))
data_arguments = click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
quick_option = click.option(
    "--quick",
    is_flag=True,
    help="Measure for about a minute: short repeats, usual settings instead of a search.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The JSON file to write. [default: runs/bench/SUITE.json]",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="The device: auto (a GPU if there is one), cpu or cuda.",
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Number format of the batches.",
)


def device_name(name: str) -> str:
    """The device to measure on: "cuda" or "cpu".

    Args:
        name: "auto" (a GPU where there is one), "cpu" or "cuda".

    Raises:
        SlipformError: This machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise SlipformError(
            f'this machine has no device "{name}": give auto or'
            f" cpu{' or cuda' if torch.cuda.is_available() else ''}"
        )
    return name


def numbers(text: str, option: str) -> list[int]:
    """Parse a list of positive integers.

    Args:
        text: Integers separated by commas, such as "16,64".
        option: The name of the option, for the text of the error.

    Raises:
        click.BadParameter: The text is something else.
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


def words(text: str) -> list[str]:
    """Parse a list of names.

    Args:
        text: Names separated by commas, such as "alexnet, vgg16".
    """
    return [word.strip() for word in text.split(",")]


def typed() -> set[str]:
    """The names of the options that were given on the command line."""
    context = click.get_current_context()
    return {
        name
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "")
        is click.core.ParameterSource.COMMANDLINE
        for name in parameter.opts
    }


def check_names(option: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Check that all given names are allowed.

    Args:
        option: The name of the option, for the text of the error.
        given: The given names.
        allowed: All allowed names.

    Raises:
        click.BadParameter: A name is not allowed.
    """
    for name in given:
        if name not in set(allowed):
            raise click.BadParameter(
                f'"{name}": give some of {", ".join(allowed)}', param_hint=option
            )
