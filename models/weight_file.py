"""Weights in a safetensors file with a checksum.

In: tensors by name and a few texts. Out: a file that every program for safetensors can read. Its
metadata has the key "crc32", the CRC-32 of the rest of the file; `read_weights` compares it. Files
of other programs have no checksum and load without one.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipform.pipelines.errors import SlipformError, printable
from slipform.pipelines.files import open_regular, replacing

__all__ = ["DTYPES", "read_weights", "write_weights"]

_CHECKSUM = "crc32"
_METADATA = "__metadata__"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
# The data types that weights may have, and their names in the file. Complex numbers have no place
# in a net of real ones, and 8-bit floats need a scale that is stored elsewhere.
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}
_ALLOWED = f"weights may be {', '.join(DTYPES.values())}. Save it as one of these."


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, completely or not at all.

    Args:
        path: The file; its folder must exist.
        tensors: Tensors by name, on any device, with any strides. safetensors does not keep
            strides: channels_last weights are contiguous when they are read.
        metadata: Texts by name.

    Raises:
        SlipformError: A tensor has a data type that is not in DTYPES.
        OSError: The file cannot be written; `path` has not changed.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        if tensor.dtype not in DTYPES:
            raise SlipformError(f"{path}: {name} is {tensor.dtype}: {_ALLOWED}")
        shape = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**shape, "data_offsets": [begin, end]}
    crc = _header_crc32(header)
    for tensor in tensors.values():
        crc = zlib.crc32(_bytes(tensor), crc)
    header[_METADATA][_CHECKSUM] = f"{crc:08x}"
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(_bytes(tensor))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file of this or another program.

    It is read into memory, not mapped: truncating a mapped file later kills the process.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU, in one buffer, and the metadata.

    Raises:
        SlipformError: The file is missing, it is no safetensors file, or its checksum is wrong.
    """
    with open_regular(path) as file:
        num_bytes = os.fstat(file.fileno()).st_size
        size = file.read(8)
        header_bytes = struct.unpack("<Q", size)[0] if len(size) == 8 else 0
        if not 2 <= header_bytes <= min(num_bytes - 8, _MAX_HEADER_BYTES):
            raise SlipformError(f"{path} is damaged: it is no safetensors file")
        text = file.read(header_bytes)
        data = torch.empty(num_bytes - 8 - header_bytes, dtype=torch.uint8)
        num_read = file.readinto(data.numpy().data) if len(data) else 0  # type: ignore[attr-defined]
    try:
        header = json.loads(text)
        metadata = {str(key): str(value) for key, value in header.pop(_METADATA, {}).items()}
        checksum = metadata.pop(_CHECKSUM, None)
        tensors = {str(name): _tensor(data, str(name), entry) for name, entry in header.items()}
    except SlipformError as error:
        raise SlipformError(f"{path}: {error.message}") from None
    except (AttributeError, KeyError, RecursionError, RuntimeError, TypeError, ValueError) as error:
        raise SlipformError(f"{path} is damaged: its header is incomplete ({error})") from None
    if num_read != len(data):
        raise SlipformError(f"{path} is damaged: it was truncated while it was read")
    if checksum is not None:
        crc = zlib.crc32(data.numpy().data, _header_crc32({**header, _METADATA: metadata}))
        if f"{crc:08x}" != checksum:
            raise SlipformError(f"{path} is damaged (its checksum is wrong)")
    return tensors, metadata


def _tensor(data: Tensor, name: str, entry: dict[str, Any]) -> Tensor:
    """The tensor of an entry of the header: a view of `data` where its offset is aligned."""
    begin, end = entry["data_offsets"]
    if (kind := entry["dtype"]) not in _BY_NAME:
        raise SlipformError(f"{printable(name)} is {printable(str(kind))}: {_ALLOWED}")
    dtype = _BY_NAME[kind]
    if not 0 <= begin <= end <= len(data):
        raise ValueError(f"bytes {begin} to {end} of {len(data)}")
    part = data[begin:end]
    if begin % dtype.itemsize:
        part = part.clone()
    return part.view(dtype).reshape(entry["shape"])


def _header_crc32(header: Mapping[str, Any]) -> int:
    """The CRC-32 of the header, as JSON with sorted keys."""
    return zlib.crc32(json.dumps(header, sort_keys=True).encode())


def _bytes(tensor: Tensor) -> Any:
    """The tensor's values in row-major order, as a buffer of bytes."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
