"""The names of a split's samples, in a text file beside the beton.

In: the path of a beton. Out: one name per sample, in order. A name says where the sample came from.
Older datasets have no such file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import read_regular, write_whole
from slipform.pipelines.manifest import BetonInfo

__all__ = ["names_path", "read_names", "write_names"]

_MAX_NAME = 1 << 16  # bytes: more than any name of a file or of a member of a tar


def names_path(beton: Path) -> Path:
    """The path of the names of a beton.

    Args:
        beton: Path of the beton: train.beton.

    Returns:
        The path beside it: train.names.txt.
    """
    return beton.with_suffix(".names.txt")


def write_names(beton: Path, names: Iterable[str]) -> str:
    """Write the names beside a beton.

    Args:
        beton: The path of the beton.
        names: One name per sample, in the order of the beton. Control characters and bytes that are
            not UTF-8 are escaped, so that each name is one line.

    Returns:
        The SHA-256 of the file in hex, for the manifest.

    Raises:
        OSError: The file cannot be written.
    """
    text = "".join(f"{printable(name)}\n" for name in names).encode()
    write_whole(names_path(beton), text)
    return hashlib.sha256(text).hexdigest()


def read_names(folder: Path, split: BetonInfo) -> list[str] | None:
    """Read the names of a split's samples.

    Args:
        folder: The dataset folder.
        split: The split, or one of its shards, from the manifest.

    Returns:
        One name per sample. None: the dataset has no names.

    Raises:
        DatasetError: The file is missing, or is not the one that prep wrote.
    """
    found: list[str] = []
    for info in split.files:
        if not info.names_sha256:
            return None
        path, what = (
            names_path(Path(folder) / info.file),
            f"the names of {info.num_samples} samples",
        )
        content = read_regular(path, info.num_samples * _MAX_NAME, what, DatasetError)
        names = content.decode("utf-8", "replace").split("\n")[:-1]
        wrong = hashlib.sha256(content).hexdigest() != info.names_sha256
        if wrong or len(names) != info.num_samples:
            raise DatasetError(f"{path} is not the file that prep wrote. Run prep again.")
        found += names
    return found
