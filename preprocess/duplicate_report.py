"""What `prep verify` says about duplicates: lines for the terminal, and a CSV file.

In: the result of `find_duplicates`. Out: text with names and classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import printable
from slipform.pipelines.files import write_whole
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.number_text import number_of
from slipform.pipelines.sample_names import read_names
from slipform.preprocess.duplicates import Duplicate

__all__ = ["duplicate_lines", "write_csv"]

_COLUMNS = (
    "split", "index", "name", "class", "other_split", "other_index", "other_name", "other_class",
    "similarity", "exact",
)  # fmt: skip


def duplicate_lines(
    found: Sequence[Duplicate], folder: Path, manifest: Manifest, most: int = 20
) -> Iterator[str]:
    """Describe duplicates.

    Args:
        found: The result of `find_duplicates`.
        folder: The dataset folder.
        manifest: Its manifest.
        most: The number of pairs that are listed.

    Yields:
        A line for each listed pair, and one with the numbers.
    """
    for row in _rows(found[:most], folder, manifest):
        kind = "equals" if row["exact"] else "is almost equal to"
        end = "" if row["exact"] else f", correlation {row['similarity']:.3f}"
        yield printable(
            f"{row['split']} sample {row['index']} ({row['name']}, {row['class']}) {kind}"
            f" {row['other_split']} sample {row['other_index']} ({row['other_name']},"
            f" {row['other_class']}){end}"
        )
    if found:
        more = f"; not listed here: {len(found) - most}" if len(found) > most else ""
        equal = sum(one.exact for one in found)
        other = sum(one.classes[0] != one.classes[1] for one in found)
        yield (
            f"{number_of(len(found), 'image')} of later splits also in an earlier one, {equal} of"
            f" them byte for byte; with another class there: {other}{more}"
        )
    else:
        yield "no image is in two splits"


def write_csv(found: Sequence[Duplicate], folder: Path, manifest: Manifest, out: Path) -> None:
    """Write duplicates to a CSV file, completely or not at all.

    Args:
        found: The result of `find_duplicates`.
        folder: The dataset folder.
        manifest: Its manifest.
        out: The file.

    Raises:
        OSError: It cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(found, folder, manifest))
    write_whole(out, text.getvalue())


def _rows(found: Sequence[Duplicate], folder: Path, manifest: Manifest) -> Iterator[dict[str, Any]]:
    names = {split: read_names(folder, info) for split, info in manifest.splits.items()}

    def name_of(split: str, index: int) -> str:
        known = names[split]
        return known[index] if known else "no name"

    for one in found:
        own, its = (
            " + ".join(manifest.classes[number] for number in numbers) or "no label"
            for numbers in one.classes
        )
        values = (
            one.split, one.index, name_of(one.split, one.index), own,
            one.other, one.other_index, name_of(one.other, one.other_index), its,
            round(one.similarity, 4), one.exact,
        )  # fmt: skip
        yield dict(zip(_COLUMNS, values, strict=True))
