"""The idx files of MNIST and similar datasets, plain or gzip.

In: a folder, or one file. Out: arrays of bytes. The format is a magic number, sizes as big-endian
uint32, then bytes (yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import open_regular
from slipform.preprocess.class_folders import locate
from slipform.preprocess.source import Arrays

__all__ = ["read_idx", "read_images"]

_FILES = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, plain or .gz"
# The largest of these files holds 47 MB. gzip could unpack to any size.
_MAX_BYTES = 1 << 28


def read_images(source: Path, part: str, num_classes: int) -> Arrays:
    """Read images and labels of one part of a dataset.

    Args:
        source: A folder with the files, at any of the upper levels.
        part: "train" or "t10k".
        num_classes: Number of classes. All labels must be lower.

    Returns:
        Gray images with their labels.

    Raises:
        DatasetError: A file is missing, damaged, or does not fit the other one.
    """
    images = read_idx(_find(source, f"{part}-images", 3), 3)
    labels = read_idx(_find(source, f"{part}-labels", 1), 1)
    if len(images) != len(labels):
        raise DatasetError(f"{source} holds {len(images)} {part} images, but {len(labels)} labels.")
    if labels.max(initial=0) >= num_classes:
        raise DatasetError(
            f"{source} holds the {part} label {labels.max()}, expected 0 to {num_classes - 1}."
        )
    return Arrays(images, labels.astype(np.int64), f"{part}-images")


def _find(source: Path, stem: str, dimensions: int) -> Path:
    for name in (
        f"{stem}{dash}idx{dimensions}-ubyte{suffix}" for dash in "-." for suffix in ("", ".gz")
    ):
        if (path := locate(source, name)) and path.is_file():
            return path
    raise DatasetError(
        f"{source} holds no {stem}-idx{dimensions}-ubyte, plain or .gz. --source takes a folder"
        f" with {_FILES}, from the official site."
    )


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an idx file of bytes.

    Args:
        path: The file. With the ending .gz it is unpacked.
        dimensions: Number of dimensions of the array.

    Returns:
        uint8, of the shape in the header.

    Raises:
        DatasetError: The file has another format, or is truncated, damaged or too long.
    """
    try:
        with (
            open_regular(path, DatasetError) as raw,
            gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as file,
        ):
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) != 4 + 4 * dimensions:
                raise DatasetError(f"{path} is not an idx file of bytes, {dimensions} dimensions.")
            shape = [int(size) for size in np.frombuffer(header, ">u4", offset=4)]
            size = int(np.prod(shape, dtype=object))
            if 0 in shape or size > _MAX_BYTES:
                raise DatasetError(
                    f"{path} declares the shape {' x '.join(map(str, shape))}, which is empty or"
                    " too large. Download it again."
                )
            data = file.read(size)
            if len(data) != size or file.read(1):
                raise DatasetError(
                    f"{path} does not hold the {size} bytes of its header. Download it again."
                )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is damaged: {error}. Download it again.") from None
    return np.frombuffer(data, np.uint8).reshape(shape)
