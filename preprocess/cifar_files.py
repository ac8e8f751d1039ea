"""The files of CIFAR-10 and CIFAR-100, python or binary version.

In: a folder, or one file. Out: pixels uint8 [N, 3, 32, 32] and labels, or class names. Both
versions hold rows of 3,072 bytes: the red, the green and the blue plane.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.class_folders import locate
from slipform.preprocess.pickles import ArrayState, read_pickle

__all__ = ["find_files", "read_binary", "read_lines", "read_names", "read_python"]

_ROW = 3 * 32 * 32


def find_files(source: Path, first: str, files: str) -> tuple[Path, bool]:
    """Find the files of a dataset.

    Args:
        source: A folder with the files, at any of the upper levels.
        first: Name of the first file, without ".bin".
        files: The files that are expected, in words, for the message.

    Returns:
        The folder of the files, and whether they are the binary version.

    Raises:
        DatasetError: They are not there.
    """
    for name in (first, f"{first}.bin"):
        if (path := locate(source, name)) and path.is_file():
            return path.parent, path.suffix == ".bin"
    raise DatasetError(f"{source} holds no {first}. --source takes a folder with {files}.")


def read_python(
    path: Path, key: bytes, num_classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read a file of the python version.

    Args:
        path: The file.
        key: Key of the labels in its dictionary: b"fine_labels".
        num_classes: Number of classes. All labels must be lower.

    Returns:
        Pixels uint8 [N, 3, 32, 32], labels int64 [N].

    Raises:
        DatasetError: The file is missing, damaged, or has another content.
    """
    batch = read_pickle(_existing(path))
    try:
        data, listed = batch[b"data"], batch[key]
        if not isinstance(data, ArrayState) or not all(type(label) is int for label in listed):
            raise ValueError("data is not an array, or a label is not an integer")
        rows, labels = data.bytes_array(), np.array(listed, np.int64)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"{path} is not a CIFAR batch: {error}. Download it again.") from None
    return _checked(path, rows, labels, num_classes)


def read_binary(
    path: Path, num_classes: tuple[int, ...], column: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read a file of the binary version.

    Args:
        path: The file.
        num_classes: Number of classes for each byte of labels at the beginning of a row.
        column: The byte of labels to use.

    Returns:
        Pixels uint8 [N, 3, 32, 32], labels int64 [N].

    Raises:
        DatasetError: The file is missing, damaged, or has another content.
    """
    content = np.frombuffer(_existing(path).read_bytes(), np.uint8)
    width = len(num_classes) + _ROW
    if len(content) == 0 or len(content) % width:
        raise DatasetError(
            f"{path} has {len(content)} bytes, not a multiple of {width}. Download it again."
        )
    rows = content.reshape(-1, width)
    return _checked(
        path, rows[:, len(num_classes) :], rows[:, column].astype(np.int64), num_classes[column]
    )


def _checked(
    path: Path, rows: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], num_classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Check shapes and labels. Returns pixels [N, 3, 32, 32] and labels."""
    if rows.ndim != 2 or rows.shape[1] != _ROW or labels.shape != (len(rows),) or not len(rows):
        raise DatasetError(
            f"{path} holds arrays of shape {rows.shape} and {labels.shape}, expected (n, {_ROW})"
            " and (n,). Download it again."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DatasetError(
            f"{path} holds a label outside 0 to {num_classes - 1}. Download it again."
        )
    return rows.reshape(-1, 3, 32, 32), labels


def read_names(path: Path, key: bytes, number: int) -> list[str]:
    """Read class names of the python version.

    Args:
        path: The file.
        key: Key of the names in its dictionary: b"label_names".
        number: The expected number of names.

    Returns:
        The names in the order of the labels.

    Raises:
        DatasetError: The file is missing, damaged, or has another content.
    """
    names = read_pickle(_existing(path)).get(key)
    if (
        not isinstance(names, list)
        or len(names) != number
        or not all(isinstance(name, str | bytes) for name in names)
    ):
        raise DatasetError(f"{path} does not hold {number} class names. Download it again.")
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]


def read_lines(path: Path, number: int) -> list[str]:
    """Read class names of the binary version, one per line.

    Args:
        path: The file.
        number: The expected number of names.

    Returns:
        The names in the order of the labels.

    Raises:
        DatasetError: The file is missing, or holds another number of names.
    """
    names = _existing(path).read_text(encoding="utf-8", errors="replace").split()
    if len(names) != number:
        raise DatasetError(
            f"{path} holds {len(names)} class names, expected {number}. Download it again."
        )
    return names


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError(f"{path} is missing beside the other files. Download them again.")
    return path
