"""The CRC-32 of many samples in one call. Compiled by numba.

In: bytes, and where each sample is in them. Out: the checksums of zlib. A call of zlib for each
sample takes longer than the checksum itself if samples are small, and it holds the GIL.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slipform.pipelines.kernel import kernel

__all__ = ["crc32_of"]

_POLYNOMIAL = 0xEDB88320  # of zlib: CRC-32/ISO-HDLC, reflected


def _tables() -> npt.NDArray[np.uint32]:
    """uint32 [8, 256]: [k, b] is the CRC of byte b followed by k zeros."""
    found = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        found = np.where(found & 1, _POLYNOMIAL ^ (found >> 1), found >> 1).astype(np.uint32)
    tables = [found]
    for _ in range(7):
        tables.append(tables[0][tables[-1] & 255] ^ (tables[-1] >> 8))
    return np.stack(tables)


_TABLES = _tables()
# numba converts mixed widths to float64: all numbers are uint64.
_ONES, _BYTE = np.uint64(0xFFFFFFFF), np.uint64(255)
_8, _16, _24 = np.uint64(8), np.uint64(16), np.uint64(24)


@kernel
def crc32_of(data, offsets, sizes):
    """Eight bytes at a time: "slicing-by-8" (Kounavis and Berry, ISCC 2005).

    Args:
        data: uint8, all bytes.
        offsets: int64 [N], where each sample begins in `data`.
        sizes: int64 [N], the bytes of each sample.

    Returns:
        uint32 [N].
    """
    out = np.empty(len(offsets), np.uint32)
    for i in range(len(offsets)):
        crc, at, end = _ONES, offsets[i], offsets[i] + sizes[i]
        while at + 8 <= end:
            word = crc ^ np.uint64(data[at]) ^ (np.uint64(data[at + 1]) << _8)
            word ^= (np.uint64(data[at + 2]) << _16) ^ (np.uint64(data[at + 3]) << _24)
            low = _TABLES[7, word & _BYTE] ^ _TABLES[6, (word >> _8) & _BYTE]
            high = _TABLES[5, (word >> _16) & _BYTE] ^ _TABLES[4, word >> _24]
            more = _TABLES[3, data[at + 4]] ^ _TABLES[2, data[at + 5]]
            crc = np.uint64(low ^ high ^ more ^ _TABLES[1, data[at + 6]] ^ _TABLES[0, data[at + 7]])
            at += 8
        while at < end:
            crc = np.uint64(_TABLES[0, (crc ^ np.uint64(data[at])) & _BYTE]) ^ (crc >> _8)
            at += 1
        out[i] = np.uint32(crc ^ _ONES)
    return out
