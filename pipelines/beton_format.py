"""The format of a .beton file: FFCV's, version 2.

In: nothing. Out: the types of its parts, from types.py of ffcv 1.0.2.

The layout, little-endian:

    header        version u2, num_fields u2, page_size u4, num_samples u8, alloc_table_ptr u8
    descriptors   per field: type_id u1, name 16 bytes, arguments 1024 bytes
    metadata      per sample, aligned as a C struct:
                  RGBImage (mode u1, width u2, height u2, data_ptr u8), Int (i8)
    data          from the next page boundary
    table         from alloc_table_ptr to the end, per sample: (sample_id u8, ptr u8, size u8)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = [
    "DESCRIPTOR",
    "HEADER",
    "IMAGE",
    "IMAGE_FIELD",
    "INT_FIELD",
    "JPG",
    "RAW",
    "TABLE_ROW",
    "VERSION",
    "metadata_type",
]

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
DESCRIPTOR = np.dtype(
    [("type_id", "u1"), ("name", "u1", 16), ("arguments", "u1", 1024)], align=True
)
TABLE_ROW = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
INT_FIELD, IMAGE_FIELD = 1, 2  # ffcv's type ids of IntField and RGBImageField
VERSION = 2
JPG, RAW = 0, 1  # IMAGE_MODES of ffcv


def metadata_type(fields: Sequence[int]) -> np.dtype[np.void]:
    """The type of the metadata of a sample.

    Args:
        fields: The types of the two fields, in their order: INT_FIELD and IMAGE_FIELD.

    Returns:
        A type with the fields `label` and `image`.
    """
    kinds = {INT_FIELD: ("label", np.dtype("<i8")), IMAGE_FIELD: ("image", IMAGE)}
    # With align=True numpy pads the fields as ffcv does: like a C struct.
    return np.dtype([kinds[field] for field in fields], align=True)
