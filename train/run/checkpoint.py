"""Checkpoints on disk: whole or not there at all, checked when read, safe to load.

In: tensors and plain values. Out: `checkpoints/step-00000120-1a2b3c4d.pt`, whose name ends in the
CRC-32 of its bytes. A file gets its final name only after all of it has reached the disk.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from slipform.pipelines.errors import SlipformError
from slipform.pipelines.files import open_regular, replacing, sync_folder
from slipform.train.run.torch_file import torch_file

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{8})\.pt")
_CHUNK_BYTES = 1 << 20


def save(run: Path, step: int, content: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint, then delete the oldest.

    Args:
        run: The run folder.
        step: Steps of the optimizer so far; it becomes part of the name.
        content: Tensors and plain values.
        keep: How many of the newest checkpoints stay.

    Returns:
        The checkpoint's path.

    Raises:
        SlipformError: It cannot be written; the older checkpoints are then untouched.
    """
    folder = run / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = folder / "whole.pt"  # its checksum is known only when it is written
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
    """The error for a file of a run that cannot be written.

    Args:
        error: What the system said.
        what: The file in words: "the best weights".
        run: The run folder.

    Returns:
        An error with the system's words, the path and what to do.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return SlipformError(
        f"{what} could not be written to {error.filename or run}: {error.strerror or error}. What"
        f" was there before is untouched. {'Make room, then go' if full else 'Go'} on with: train"
        f" --resume {run}"
    )


def checkpoints(run: Path) -> list[Path]:
    """A run folder's checkpoints, whole or damaged.

    Args:
        run: The run folder.

    Returns:
        Their paths, the newest first.
    """
    found = [
        (path.stat().st_mtime_ns, path)
        for path in (run / FOLDER).glob("step-*.pt")
        if _NAME.fullmatch(path.name)
    ]
    return [
        path for _, path in sorted(found, key=lambda item: (_step(item[1]), item[0]), reverse=True)
    ]


def load_newest(run: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Load the newest whole checkpoint.

    Args:
        run: The run folder.
        say: Is told of each damaged checkpoint that is passed over.

    Returns:
        Its content, tensors on the CPU; None where there is no checkpoint.

    Raises:
        SlipformError: All checkpoints are damaged.
    """
    for content in load_all(run, lambda text: say(f"{text}; going back to the one before it")):
        return content
    if checkpoints(run):
        raise SlipformError(
            f"every checkpoint in {run / FOLDER} is damaged. Start again with --overwrite."
        )
    return None


def load_all(run: Path, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The whole checkpoints of a run, newest first, one in memory at a time; `say` is told of
    damaged ones."""
    for path in checkpoints(run):
        try:
            content = _load(path)
        except SlipformError as error:
            say(error.message)
        else:
            yield content


def _load(path: Path) -> dict[str, Any]:
    match = _NAME.fullmatch(path.name)
    assert match
    try:
        if crc32(path) != int(match[2], 16):
            raise SlipformError(f"{path} is damaged (its checksum is wrong)")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except SlipformError:
        raise
    except (OSError, RuntimeError, pickle.UnpicklingError, ValueError, EOFError) as error:
        raise SlipformError(f"{path} is damaged: it cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise SlipformError(f"{path} is damaged: it is no checkpoint of this program")
    return content


def crc32(path: Path) -> int:
    """Of the file's bytes."""
    crc = 0
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1])
