"""Checkpoints on disk: whole or not there at all, checked when read, safe to load.

In: tensors and plain values. Out: `checkpoints/step-00000120-1a2b3c4d.pt`, whose name ends in the
CRC-32 of its bytes, and `best.safetensors`. A file gets its final name only after all of it has
reached the disk.
"""

from __future__ import annotations

import os
import pickle
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor, nn

from slipform.pipelines.errors import SlipformError

FOLDER = "checkpoints"
BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{8})\.pt")
_CHUNK_BYTES = 1 << 20


class _Checksummed:
    """A file that knows the CRC-32 of what was written to it. torch.save writes front to back, so
    no second reading is needed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.crc = 0

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def save(run: Path, step: int, content: dict[str, Any], *, keep: int) -> Path:
    """Write the checkpoint of `step` and delete all but the newest `keep`. Raises SlipformError
    where the disk is full: the older checkpoints are then untouched."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "writing.tmp"
    with _cleaned_up(temporary, f"the checkpoint of step {step}"):
        with open(temporary, "wb") as file:
            checked = _Checksummed(file)
            torch.save(content, cast(IO[bytes], checked))
            _sync(file)
        path = folder / f"step-{step:08d}-{checked.crc:08x}.pt"
        os.replace(temporary, path)
        _sync_folder(folder)
    for old in checkpoints(run)[keep:]:
        old.unlink()
    return path


def checkpoints(run: Path) -> list[Path]:
    """A run folder's checkpoints, newest first."""
    found = [
        (path.stat().st_mtime_ns, path)
        for path in (run / FOLDER).glob("step-*.pt")
        if _NAME.fullmatch(path.name)
    ]
    return [
        path for _, path in sorted(found, key=lambda item: (_step(item[1]), item[0]), reverse=True)
    ]


def load_newest(run: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest whole checkpoint, its tensors on the CPU, or None where there is none. Damaged
    ones are passed over, which `say` is told. Raises SlipformError where all are damaged."""
    paths = checkpoints(run)
    for path in paths:
        try:
            return _load(path)
        except SlipformError as error:
            say(f"{error.message}; going back to the one before it")
    if paths:
        raise SlipformError(
            f"every checkpoint in {run / FOLDER} is damaged. Start again with --overwrite."
        )
    return None


def _load(path: Path) -> dict[str, Any]:
    match = _NAME.fullmatch(path.name)
    assert match
    try:
        if crc32(path) != int(match[2], 16):
            raise SlipformError(f"{path} is damaged (its checksum is wrong)")
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise SlipformError(f"{path} cannot be read ({error})") from error
    return content


def crc32(path: Path) -> int:
    """Of the file's bytes."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


def save_best(run: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write best.safetensors whole or not at all."""
    from safetensors.torch import save_file

    temporary = run / f"{BEST}.tmp"
    # safetensors keeps no strides: channels_last weights are written, and come back, contiguous
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with _cleaned_up(temporary, "the best weights"):
        save_file(plain, temporary, metadata)
        with open(temporary, "rb") as file:
            _sync(file)
        os.replace(temporary, run / BEST)
        _sync_folder(run)


def load_best(run: Path) -> dict[str, Tensor]:
    """The tensors of best.safetensors, on the CPU. Raises SlipformError where it is missing or
    damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (run / BEST).is_file():
        raise SlipformError(
            f"{run} has no {BEST}: its training did not get past one epoch. Go on with: train"
            f" --resume {run}"
        )
    try:
        return load_file(run / BEST)
    except SafetensorError as error:
        raise SlipformError(
            f"{run / BEST} is damaged ({error}). Go on with: train --resume {run}"
        ) from error


def copy_weights(model: nn.Module, weights: dict[str, Tensor], run: Path) -> None:
    """Copy the tensors of best.safetensors into a run's model. Raises SlipformError where they are
    not that model's."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise SlipformError(
            f"{run / BEST} holds other weights than the run's model has ({first}). The folder's"
            " files are of different runs; train again with --overwrite."
        ) from None


@contextmanager
def _cleaned_up(temporary: Path, what: str) -> Iterator[None]:
    """Removes the temporary file where writing fails. torch and safetensors turn a full disk into
    errors of their own."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise SlipformError(
            f"{what} could not be written to {temporary.parent} ({error}). Is the disk full? What"
            " was there before is untouched; make room and go on with --resume."
        ) from error


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match
    return int(match[1])


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """The rename itself reaches the disk only with the folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
