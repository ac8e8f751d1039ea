"""What goes wrong because of what a person gave, and how a command says it.

The one module that every folder may import. An error's text says what was given, what is allowed
and what to do next; raised inside a click command it is printed without a traceback and ends the
process with its exit code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import click


class SlipformError(click.ClickException, ValueError):
    """A user's mistake or a damaged input; exit code 1."""


class DatasetError(SlipformError):
    """A dataset folder, a beton or a raw source is missing, damaged or not what it should be."""


class ConfigError(SlipformError):
    """A setting, recipe, model or option that does not exist or does not fit."""


class SampleError(SlipformError):
    """One sample cannot be read or decoded.

    index: its position in the beton. label: its class number, or None where unknown.
    """

    def __init__(self, message: str, index: int, label: int | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.label = label


class Interrupted(SlipformError):
    """Ctrl-C or SIGTERM, after everything worth keeping was written; exit code 130, as shells have
    it."""

    exit_code = 130


def nearest(name: str, allowed: Iterable[str]) -> str:
    """' Did you mean "x"?' for the allowed name most like `name`; '' where none is near."""
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f' Did you mean "{found[0]}"?' if found else ""


def unknown(
    kind: str, name: str, allowed: Iterable[str], error: type[SlipformError] = ConfigError
) -> SlipformError:
    """The error for a name that is none of the allowed ones: unknown("model", "restnet18",
    names())."""
    names = sorted(allowed)
    listed = (
        ", ".join(names)
        if len(names) <= 24
        else f"{', '.join(names[:20])} and {len(names) - 20} more"
    )
    return error(f'there is no {kind} "{name}".{nearest(name, names)} Allowed: {listed}.')


def printable(text: str) -> str:
    """Text of a stranger as one line that a terminal shows and does not obey.

    Args:
        text: A name of a file or class, with any characters.

    Returns:
        The text; control characters, line breaks and bytes that were not UTF-8 are escaped as \\xNN
        or \\uNNNN.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if 0xDC80 <= ord(character) <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class _ReportsInterrupt:
    """Mixin for click commands: Ctrl-C ends with 130 and a word, a full disk or a missing
    permission without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None
        except BrokenPipeError:  # nobody reads the output any more: click ends quietly
            raise
        except OSError as error:
            raise SlipformError(
                f"{error.strerror or error}: {error.filename or 'while reading or writing'}"
            ) from error


class Command(_ReportsInterrupt, click.Command):
    """click.Command with this project's exit codes."""


class Group(_ReportsInterrupt, click.Group):
    """click.Group with this project's exit codes."""

    command_class = Command
