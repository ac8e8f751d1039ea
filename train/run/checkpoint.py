"""Checkpoint files: complete or absent, checked when they are read, safe to load.

In: tensors and plain values. Out: `checkpoints/step-00000120-1a2b3c4d.pt`. The name ends in the
CRC-32 of the file. A file gets its final name only after all of it is on the disk.
"""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import open_regular, replacing, sync_folder
from slipform.train.run.torch_file import torch_file

__all__ = [
    "FOLDER",
    "checkpoints",
    "crc32",
    "is_whole",
    "load_all",
    "load_newest",
    "save",
    "step_of",
    "unwritable",
]

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{8})\.pt")
_CHUNK_BYTES = 1 << 20


def save(run: Path, step: int, content: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint, then delete the oldest ones.

    Args:
        run: The run folder.
        step: Steps of the optimizer so far; a part of the file's name.
        content: Tensors and plain values.
        keep: The number of checkpoints to keep, the newest ones.

    Returns:
        The path of the checkpoint.

    Raises:
        SlipformError: It cannot be written; the older checkpoints have not changed.
    """
    folder = run / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = folder / "whole.pt"  # the final name has the checksum, known after the write
        with replacing(whole) as temporary, torch_file(temporary) as file:
            torch.save(content, file)
        path = folder / f"step-{step:08d}-{file.crc:08x}.pt"
        os.replace(whole, path)
        sync_folder(folder)
        for old in checkpoints(run)[keep:]:
            old.unlink()
    except OSError as error:
        raise unwritable(error, f"the checkpoint of step {step}", run) from error
    return path


def unwritable(error: OSError, what: str, run: Path) -> SlipformError:
    """Make the error for a file of a run that cannot be written.

    Args:
        error: The error of the system.
        what: A description of the file, such as "the best weights".
        run: The run folder.

    Returns:
        An error with the system's reason, the path and what to do.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return SlipformError(
        f"{what} could not be written to {error.filename or run}: {error.strerror or error}. Older"
        f" files have not changed. {'Free some space, then continue' if full else 'Continue'} with:"
        f" train --resume {run}"
    )


def checkpoints(run: Path) -> list[Path]:
    """The paths of all checkpoints in a run folder, the newest first.

    Args:
        run: The run folder.
    """
    found = [
        (path.stat().st_mtime_ns, path)
        for path in (run / FOLDER).glob("step-*.pt")
        if _NAME.fullmatch(path.name)
    ]
    return [
        path
        for _, path in sorted(found, key=lambda item: (step_of(item[1]), item[0]), reverse=True)
    ]


def load_newest(run: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Load the newest checkpoint that is not damaged.

    Args:
        run: The run folder.
        say: Called with a message for each damaged checkpoint.

    Returns:
        The content, with tensors on the CPU; None if there is no checkpoint.

    Raises:
        SlipformError: All checkpoints are damaged.
    """
    for content in load_all(run, lambda text: say(f"{text}; trying the one before it")):
        return content
    if checkpoints(run):
        raise SlipformError(
            f"every checkpoint in {run / FOLDER} is damaged. Start again with --overwrite."
        )
    return None


def load_all(run: Path, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Load the checkpoints of a run that are not damaged, one at a time, the newest first.

    Args:
        run: The run folder.
        say: Called with a message for each damaged checkpoint.

    Yields:
        The content of a checkpoint, with tensors on the CPU.
    """
    for path in checkpoints(run):
        try:
            content = _load(path)
        except SlipformError as error:
            say(error.message)
        else:
            yield content


def _load(path: Path) -> dict[str, Any]:
    try:
        if not is_whole(path):
            raise SlipformError(f"{path} is damaged (its checksum is wrong)")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (SlipformError, MemoryError):
        raise
    except Exception as error:  # torch raises many kinds of exceptions for damaged files
        raise SlipformError(f"{path} is damaged: it cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise SlipformError(f"{path} is damaged: it is no checkpoint of Slipform")
    return content


def is_whole(path: Path) -> bool:
    """Whether a checkpoint has the checksum that is in its name.

    Args:
        path: One of `checkpoints`.

    Raises:
        SlipformError: It cannot be read.
    """
    match = _NAME.fullmatch(path.name)
    assert match
    return crc32(path) == int(match[2], 16)


def crc32(path: Path) -> int:
    """The CRC-32 of a file.

    Args:
        path: The file.
    """
    crc = 0
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def step_of(path: Path) -> int:
    """The steps that were done before a checkpoint.

    Args:
        path: One of `checkpoints`.
    """
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1])
