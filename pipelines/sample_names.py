"""Names of the samples of a split, in a text file beside the beton: where each sample came from.

In: a beton's path. Out: one name a sample, in order. Datasets of before have no such file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import open_regular, write_whole
from slipform.pipelines.manifest import SplitInfo

ENDING = ".names.txt"


def write_names(beton: Path, names: Iterable[str]) -> str:
    """Write the names beside a beton.

    Args:
        beton: The beton's path.
        names: One for each sample, in the beton's order. Control characters and bytes that are not
            UTF-8 are written as escapes, so that one line is one name.

    Returns:
        The SHA-256 of the file, in hex, for the manifest.

    Raises:
        OSError: The file cannot be written.
    """
    text = "".join(f"{printable(name)}\n" for name in names).encode()
    write_whole(beton.with_suffix(ENDING), text)
    return hashlib.sha256(text).hexdigest()


def read_names(folder: Path, split: SplitInfo) -> list[str] | None:
    """The names of a split's samples.

    Args:
        folder: The dataset folder.
        split: The split, from the manifest.

    Returns:
        One name a sample, or None for a dataset that has none.

    Raises:
        DatasetError: The file is missing, or not the one that prep wrote.
    """
    if not split.names_sha256:
        return None
    path = (Path(folder) / split.file).with_suffix(ENDING)
    with open_regular(path, DatasetError) as file:
        content = file.read()
    names = content.decode("utf-8", "replace").split("\n")[:-1]
    if hashlib.sha256(content).hexdigest() != split.names_sha256 or len(names) != split.num_samples:
        raise DatasetError(f"{path} is not the file that prep wrote. Run prep again.")
    return names
