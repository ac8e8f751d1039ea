"""The idx files of MNIST and its kin, plain or gzip.

In: a folder, or one file. Out: arrays of bytes. The format: magic number, sizes as big-endian
uint32, then bytes (yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError
from slipform.preprocess.class_folders import locate
from slipform.preprocess.source import Arrays

FILES = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, plain or .gz"
# The largest of these files holds 47 MB; gzip could unpack to any size.
MAX_BYTES = 1 << 28


def read_images(source: Path, part: str, num_classes: int) -> Arrays:
    """Images and labels of one part.

    Args:
        source: A folder that holds the files, or holds a folder that does.
        part: "train" or "t10k".
        num_classes: Labels lie below it.

    Returns:
        Gray images with their labels.

    Raises:
        DatasetError: A file is missing, damaged, or does not fit the other.
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
        f" with {FILES}, from the official site."
    )


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An idx file of bytes with that many dimensions. Raises DatasetError where it is none, is cut
    short, or goes on too long."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) != 4 + 4 * dimensions:
                raise DatasetError(f"{path} is no idx file of bytes with {dimensions} dimensions.")
            shape = [int(size) for size in np.frombuffer(header, ">u4", offset=4)]
            size = int(np.prod(shape, dtype=object))
            if 0 in shape or size > MAX_BYTES:
                raise DatasetError(f"{path} claims the absurd shape {' x '.join(map(str, shape))}.")
            data = file.read(size)
            if len(data) != size or file.read(1):
                raise DatasetError(
                    f"{path} does not hold the {size} bytes of its header. Download it again."
                )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is damaged: {error}. Download it again.") from None
    return np.frombuffer(data, np.uint8).reshape(shape)
