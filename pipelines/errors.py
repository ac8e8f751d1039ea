"""Errors that a user can act on, and how commands report them.

In: what was given, what is allowed. Out: exceptions. Their text says what was given, what is
allowed and what to do next. A command (`command.py`) prints the text without a traceback and ends
with the exit code of the error. Every folder of this project may import this module.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from traceback import clear_frames

import click

__all__ = [
    "ConfigError",
    "DatasetError",
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
