"""Errors that a user can act on, and how commands report them.

In: what was given, what is allowed. Out: exceptions. Their text says what was given, what is
allowed and what to do next. A click command prints the text without a traceback and ends with the
exit code of the error. Every folder of this project may import this module.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from traceback import clear_frames
from typing import Any

import click

__all__ = [
    "Command",
    "ConfigError",
    "DatasetError",
    "Group",
    "Interrupted",
    "MissingObjectError",
    "SampleError",
    "SlipformError",
    "StorageError",
    "forget_frames",
    "lacks_memory",
    "nearest",
    "nearest_path",
    "printable",
    "refused_choice",
    "reported",
    "unknown",
]


class SlipformError(click.ClickException, ValueError):
    """A mistake of the user or a damaged input. Exit code 1."""


class DatasetError(SlipformError):
    """A dataset folder, a beton or a raw source is missing, damaged or of another kind."""


class ConfigError(SlipformError):
    """A setting, recipe, model or option does not exist, or its value is not allowed."""


class SampleError(SlipformError):
    """One sample cannot be read or decoded.

    Args:
        message: The text of the error.
        index: Position of the sample in the beton.
        label: Class number of the sample. None: unknown.
    """

    def __init__(self, message: str, index: int, label: int | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.label = label


class StorageError(SlipformError):
    """An object store cannot be read or written. Requests were repeated before."""


class MissingObjectError(StorageError):
    """An object store has no such object."""


class Interrupted(SlipformError):
    """Ctrl-C or SIGTERM ended a command after it had saved its results. Exit code 130."""

    exit_code = 130


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A suggestion for a misspelled name.

    Args:
        name: The name that was given.
        allowed: The names that exist.

    Returns:
        ' Did you mean "x"?' with the most similar allowed name. '' if none is similar.
    """
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f' Did you mean "{found[0]}"?' if found else ""


def nearest_path(path: Path | str, holds: str = "") -> str:
    """A suggestion for a misspelled path of this machine.

    Args:
        path: The path that was given.
        holds: The name of a file that the right folder holds. "": any file or folder is right.

    Returns:
        ' Did you mean "runs/demo"?' with the most similar name beside it. '' if the path exists, or
        if none is similar.
    """
    given = Path(path)
    try:
        with os.scandir(given.parent) as found:
            names = [entry.name for entry in islice(found, 10_000)]
    except OSError:
        return ""
    if given.name in names:
        return ""
    for name in difflib.get_close_matches(given.name, names, n=9, cutoff=0.6):
        if not holds or (given.parent / name / holds).is_file():
            return f' Did you mean "{printable(str(given.parent / name))}"?'
    return ""


def unknown(
    kind: str, name: object, allowed: Iterable[str], error: type[SlipformError] = ConfigError,
    *, where: str = "",
) -> SlipformError:  # fmt: skip
    """Build the error for a name that does not exist.

    Args:
        kind: What the name stands for: "model".
        name: What was given as a name: "restnet18".
        allowed: The names that exist.
        error: Class of the error.
        where: What the names belong to: "in labels.csv", "of resnet18".

    Returns:
        The error, to be raised. Its text holds a suggestion and the allowed names.
    """
    name, names = printable(str(name)), sorted(map(printable, allowed))
    listed = ", ".join(names)
    if len(names) > 24:
        listed = f"{', '.join(names[:20])} and {len(names) - 20} more"
    missing = f'there is no {kind} "{name}"{where and f" {printable(where)}"}.'
    return error(f"{missing}{nearest(name, names)} Allowed: {listed}.")


def refused_choice(error: click.BadParameter, kind: object) -> str:
    """The text of an error of click, with a suggestion if a word was not one of the choices.

    Args:
        error: The error.
        kind: The type of the parameter.

    Returns:
        Its message, perhaps with ' Did you mean "x"?'.
    """
    missing = re.search(r" '(.*)' does not exist\.$", error.message)
    if missing and isinstance(kind, click.Path):
        return error.message + nearest_path(missing[1])
    given = re.match(r"'(.*)' is not one of ", error.message)
    if given is None or not isinstance(kind, click.Choice):
        return error.message
    return error.message + nearest(given[1], map(str, kind.choices))


def printable(text: str) -> str:
    """Escape untrusted text, so that a terminal shows it on one line and executes nothing in it.

    Args:
        text: A name of a file or class, with any characters.

    Returns:
        The text. Control characters, line breaks and bytes that were not UTF-8 are escaped as
        \\xNN or \\uNNNN.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if 0xDC80 <= ord(character) <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


# What the system, torch and CUDA say.
_LACKS = ("allocate memory", "enough memory", "out of memory", "start new thread")


def lacks_memory(error: BaseException) -> bool:
    """Whether an exception is about missing memory, or about a thread that cannot be started.

    Args:
        error: The exception.
    """
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _LACKS)
    )


def forget_frames(error: BaseException) -> None:
    """Clear the frames that an error and its causes left. Those that still run stay as they are.

    An error that is kept would keep all objects in these frames.

    Args:
        error: The error.
    """
    found: list[BaseException] = [error]
    for one in found:  # the list grows
        clear_frames(one.__traceback__)
        for cause in (one.__cause__, one.__context__):
            if cause is not None and not any(cause is known for known in found):
                found.append(cause)


def reported(error: Exception) -> SlipformError | None:
    """The error that a command reports for an exception.

    Args:
        error: The exception.

    Returns:
        The error itself, or one with the words of the system. None: the exception is a defect.
    """
    if isinstance(error, SlipformError):
        return error
    if isinstance(error, OSError):
        return SlipformError(
            f"{error.strerror or error}: {error.filename or 'while reading or writing'}"
        )
    if not lacks_memory(error):
        return None
    return SlipformError(
        "out of memory: use smaller images, batches or models, or fewer threads"
        f" ({str(error).splitlines()[0] if str(error) else 'MemoryError'})"
    )


class _ReportsInterrupt:
    """Mixin for click commands: Ctrl-C, OSErrors and a lack of memory end them with a message.

    They end without a traceback. `-h` shows the help, too. A wrong word is answered with the most
    similar right one.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        chosen = settings.pop("context_settings", None) or {}
        chosen = {"help_option_names": ["-h", "--help"], **chosen}
        super().__init__(*args, context_settings=chosen, **settings)  # type: ignore[call-arg]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except click.BadParameter as error:
            message = refused_choice(error, error.param.type if error.param else None)
            if message == error.message:
                raise
            raise click.BadParameter(message, error.ctx, error.param) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)  # type: ignore[misc]
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None
        except BrokenPipeError:  # the reader of the output has ended: click ends without a message
            raise
        except (OSError, MemoryError, RuntimeError) as error:
            if (known := reported(error)) is None:
                raise
            raise known from error


class Command(_ReportsInterrupt, click.Command):
    """click.Command with this project's exit codes."""


class Group(_ReportsInterrupt, click.Group):
    """click.Group with this project's exit codes."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name, as in `click.Group`, or a suggestion.

        Args:
            ctx: The context of click.
            args: The arguments; the first one is the name.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchOption:
            raise
        except click.UsageError:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx) from None
