"""Checks of labels and paths before a dataset is written.

In: labels, paths and the classes of a dataset. Out: nothing, or a DatasetError that names the first
fault.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.label_table import LabelTable

__all__ = ["check_count", "check_labels", "check_paths"]

Labels = npt.NDArray[np.int64]


def check_count(what: str, count: int, labels: Labels) -> None:
    """Check that there is one label for each sample.

    Args:
        what: The samples in words: "files".
        count: Their number.
        labels: Their labels.

    Raises:
        DatasetError: There are more or fewer.
    """
    if count != len(labels):
        raise DatasetError(f"{count} {what} and {len(labels)} labels: give one label for each.")


def check_paths(paths: Iterable[object]) -> None:
    """Check that paths are texts relative to a folder.

    Args:
        paths: The paths.

    Raises:
        DatasetError: One is a Path or bytes, or absolute.
    """
    for path in paths:
        if not isinstance(path, str) or path.startswith("/"):
            raise DatasetError(
                f"paths holds {path!r}: give texts relative to the folder,"
                " path.relative_to(folder).as_posix()."
            )


def check_labels(split: str, labels: Labels, table: LabelTable | None, num_classes: int) -> None:
    """Check that labels are numbers of classes, and that they agree with the table of labels.

    Args:
        split: The name of the split.
        labels: The label of each sample.
        table: Several labels for each sample. None: one label each.
        num_classes: The number of classes.

    Raises:
        DatasetError: A label is no number of a class, or is not that of the table.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DatasetError(
            f"the labels of {split} are {labels.dtype} {labels.shape}: give int64 [N]."
        )
    if table is not None and table.num_samples != len(labels):
        raise DatasetError(
            f"{split} has {len(labels)} labels, and a table of labels for {table.num_samples}"
            " samples: give labels for the same samples in both."
        )
    every = labels if table is None else np.append(labels, table.rows["class"])
    if len(wrong := every[(every < 0) | (every >= num_classes)]):
        raise DatasetError(
            f"a label of {split} is {wrong[0]}, and there are {num_classes} classes: give 0 to"
            f" {num_classes - 1}."
        )
    if table is not None and len(wrong := np.flatnonzero(labels != table.first())):
        raise DatasetError(
            f"sample {wrong[0]} of {split} has label {labels[wrong[0]]}, which is not that of its"
            " table of labels: give table.first() as labels."
        )
