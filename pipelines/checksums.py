"""The table of checksums beside a beton: one CRC-32 per sample, in a .npy file.

In: the path of a beton. Out: the path of the table, and its values. For the manifest: one hash of
labels and table.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError
from slipform.pipelines.files import read_regular

__all__ = ["crc32_path", "index_sha256", "read_array", "read_crc32"]


def crc32_path(beton: Path) -> Path:
    """The path of the table of a beton.

    Args:
        beton: Path of the beton: train.beton.

    Returns:
        The path beside it: train.crc32.npy.
    """
    return beton.with_suffix(".crc32.npy")


def index_sha256(labels: npt.NDArray[np.int64], crc32: npt.NDArray[np.uint32]) -> str:
    """One hash of the labels and checksums of all samples.

    The manifest holds this hash, and the table holds the CRC-32 of each sample. Readers compare
    both. A split of another dataset is thus detected without hashing its gigabytes.

    Args:
        labels: int64 [N], the labels of all samples.
        crc32: uint32 [N], the checksums of all samples.

    Returns:
        The SHA-256 in hex.
    """
    digest = hashlib.sha256(np.ascontiguousarray(labels, "<i8").data)
    digest.update(np.ascontiguousarray(crc32, "<u4").data)
    return digest.hexdigest()


def read_array(content: bytes) -> npt.NDArray[Any]:
    """The array in a .npy file. Nothing is unpickled.

    Args:
        content: The bytes of the file, whose header may be damaged or hostile.

    Returns:
        The array, which cannot be written to.

    Raises:
        Exception: Of any class: the file is damaged.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)


def read_crc32(beton: Path, num_samples: int) -> npt.NDArray[np.uint32]:
    """Read the table of a beton.

    Args:
        beton: Path of the beton.
        num_samples: Its number of samples.

    Returns:
        uint32 [N], the CRC-32 (of zlib) of each sample. uint32 [0] if there is no table, as for
        betons that ffcv wrote.

    Raises:
        DatasetError: The table is damaged, or has another length.
    """
    path = crc32_path(beton)
    if not os.path.exists(path):
        return np.zeros(0, np.uint32)
    content = read_regular(path, 4 * num_samples + 4096, f"{num_samples} samples", DatasetError)
    try:
        values = read_array(content)
    except Exception as error:  # numpy parses the header as Python code, which may raise anything
        raise DatasetError(f"{path} is damaged: {error}. Run prep again.") from error
    if values.dtype != np.uint32 or values.shape != (num_samples,):
        raise DatasetError(
            f"{path} has {values.dtype} {values.shape}, expected uint32 ({num_samples},). Run prep"
            " again."
        )
    return values
