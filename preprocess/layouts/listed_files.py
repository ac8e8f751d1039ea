"""The files that a list of images names.

In: what the list says, and the images that exist. Out: the file of each row, and `Listed`, which
reads them. Only files that were found below the folder are opened, whatever a list says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipform.pipelines.decoding.image_file import ENDINGS, read_bytes, size_of_file
from slipform.pipelines.errors import DatasetError, printable
from slipform.preprocess.layouts.label_rows import Store
from slipform.preprocess.splits import canonical

__all__ = ["Listed", "match_images", "names_any"]


@dataclass(frozen=True)
class Listed(Store):
    """Images that a list names.

    Attributes:
        root: A folder.
        names: What the list says.
        paths: The file below `root`. "": there is none.
    """

    root: Path
    names: Sequence[str]
    paths: Sequence[str]

    def name(self, index: int) -> str:
        """See `Store`."""
        return self.paths[index] or self.names[index] or f"row {index + 1}"

    def read(self, index: int) -> bytes:
        """See `Store`."""
        if not self.paths[index]:
            raise ValueError("the list names it, but there is no such image")
        return read_bytes(f"{self.root}/{self.paths[index]}")

    def num_bytes(self, index: int) -> int:
        """See `Store`."""
        return size_of_file(f"{self.root}/{self.paths[index]}") if self.paths[index] else 0


def match_images(
    entries: Sequence[tuple[str, str]], images: Sequence[str], splits: Sequence[str], place: Path
) -> list[str]:
    """Find the file of each row of a list.

    A row may name the path below the folder of the list, a part of it, or a longer path of another
    machine. The ending may be missing.

    Args:
        entries: For each row the folder of its list below the root, and what it says.
        images: The images that exist, as paths below the root.
        splits: The split of each row. Among files of one name, the one in the folder of the split
            is taken.
        place: The source, for messages.

    Returns:
        The path of each row below the root. "": there is no such file.

    Raises:
        DatasetError: No row has a file, or a row fits several files.
    """
    exact, by_name = {*images}, _by_name(images)
    found = []
    for (below, entry), split in zip(entries, splits, strict=True):
        parts = _parts(entry)
        own = "/".join([*([] if below == "." else [below]), *parts])
        if own in exact:
            found.append(own)
            continue
        fitting = _fitting(parts, by_name)
        if len(fitting) > 1:
            inside = (
                [
                    p
                    for p in fitting
                    if any(canonical(x) == canonical(split) for x in p.split("/")[:-1])
                ]
                if canonical(split)
                else []
            )
            fitting = inside if len(inside) == 1 else fitting
        if len(fitting) > 1:
            raise DatasetError(
                f"{place}: {printable(entry)} of the list could be {printable(fitting[0])} or"
                f" {printable(fitting[1])}. Write the path below the folder of the list."
            )
        found.append(fitting[0] if fitting else "")
    if not any(found):
        example = printable(next((entry for _, entry in entries if entry), ""))
        raise DatasetError(
            f"{place}: the list has {len(entries):,} rows, and no image below the folder has such a"
            f" name{f', for example {example}' if example else ''}. If another column holds the"
            " path: --image-column"
        )
    return found


def names_any(entries: Iterable[str], images: Sequence[str]) -> bool:
    """Whether an entry of a list names an image.

    Args:
        entries: What the list says.
        images: The images that exist, as paths below the root.
    """
    by_name = _by_name(images)
    return any(_fitting(_parts(entry), by_name) for entry in entries)


def _by_name(images: Sequence[str]) -> dict[str, list[str]]:
    """The paths by their last part, with and without its ending."""
    found = dict[str, list[str]]()
    for path in images:
        base = path.rsplit("/", 1)[-1]
        found.setdefault(base, []).append(path)
        stem, ending = os.path.splitext(base)
        if ending.lower() in ENDINGS:
            found.setdefault(stem, []).append(path)
    return found


def _parts(entry: str) -> list[str]:
    """The parts of a path, as any system writes it."""
    return [part for part in re.split(r"[/\\]+", entry) if part not in ("", ".")]


def _fitting(parts: list[str], by_name: dict[str, list[str]]) -> list[str]:
    """The images that these parts of a path may name."""
    if not parts or ".." in parts:
        return []
    return [path for path in by_name.get(parts[-1], []) if _fits(path, parts)]


def _fits(path: str, parts: list[str]) -> bool:
    """Whether a path ends with these parts, or they with the path. The ending may be missing."""
    own = path.split("/")
    shared = min(len(own), len(parts))
    return own[-shared:-1] == parts[-shared:-1]
