"""The observations of all training images, one file for each epoch: samples/epoch-0001.safetensors.

In: codes, see `slipform.train.scores.observations`. Out: complete files with a checksum: `loss` and
`margin`, uint8 [N] each, the two bytes of the codes; 0 where a sample was not seen. Reading them
gives a `History`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines.errors import SlipformError
from slipform.train.scores.observations import UNSEEN, Codes

__all__ = ["FOLDER", "History", "forget_after", "read_history", "write_epoch"]

FOLDER = "samples"
_NAME = re.compile(r"epoch-(\d{4,})\.safetensors")


@dataclass(frozen=True)
class History:
    """The observations of a run.

    Attributes:
        epochs: The epochs that are known, counted from 1, in order.
        codes: int16 [epochs, N].
        missing: Sentences about epochs that are left out.
    """

    epochs: tuple[int, ...]
    codes: Codes
    missing: tuple[str, ...] = ()


def write_epoch(run: Path, epoch: int, codes: npt.NDArray[np.int16], images: str) -> None:
    """Write the observations of an epoch, completely or not at all.

    Args:
        run: The run folder.
        epoch: The epoch, counted from 1.
        codes: int16 [N].
        images: The identity of the training images; see `slipform.train.run.identity.images_of`.

    Raises:
        OSError: It cannot be written.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    upper = ((codes >> 8) + 128).astype(np.uint8)
    tensors = {
        "loss": torch.from_numpy(upper),
        "margin": torch.from_numpy((codes & 0xFF).astype(np.uint8)),
    }
    write_weights(_path(run, epoch), tensors, {"epoch": str(epoch), "images": images})


def forget_after(run: Path, epoch: int) -> None:
    """Remove the files of epochs that a resumed run trains again.

    Args:
        run: The run folder.
        epoch: Files of later epochs are removed.
    """
    for number, path in _files(run):
        if number > epoch:
            path.unlink()


def read_history(run: Path, num_samples: int, images: str) -> History:
    """Read the observations of a run.

    Epochs on other images, and files that are damaged, are left out.

    Args:
        run: The run folder.
        num_samples: N, the number of training samples.
        images: The identity of the training images, as for `write_epoch`.
    """
    epochs: list[int] = []
    rows: list[npt.NDArray[np.int16]] = []
    missing: list[str] = []
    for epoch, path in _files(run):
        try:
            rows.append(_read(path, num_samples, images))
        except SlipformError as error:
            missing.append(f"epoch {epoch} is left out: {error.message}")
        else:
            epochs.append(epoch)
    codes = np.stack(rows) if rows else np.full((0, num_samples), UNSEEN, np.int16)
    return History(tuple(epochs), Codes(codes), tuple(missing))


def _read(path: Path, num_samples: int, images: str) -> npt.NDArray[np.int16]:
    tensors, metadata = read_weights(path)
    if metadata.get("images") != images:
        raise SlipformError(f"{path} is of other training images")
    loss, margin = tensors.get("loss"), tensors.get("margin")
    for values in (loss, margin):
        if values is None or values.dtype != torch.uint8 or values.shape != (num_samples,):
            raise SlipformError(f"{path} does not have two bytes for each of {num_samples} samples")
    assert loss is not None
    assert margin is not None
    upper = loss.numpy().astype(np.int16) - 128
    found: npt.NDArray[np.int16] = upper * np.int16(256) + margin.numpy()
    return found


def _files(run: Path) -> Iterator[tuple[int, Path]]:
    """The epochs and their files, in order."""
    found = (
        (int(match[1]), path)
        for path in (run / FOLDER).glob("epoch-*")
        if (match := _NAME.fullmatch(path.name))
    )
    yield from sorted(found)


def _path(run: Path, epoch: int) -> Path:
    return run / FOLDER / f"epoch-{epoch:04d}.safetensors"
