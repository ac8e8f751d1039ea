"""Memory between inaccessible pages: an access to one byte beyond it ends the process.

In: a number of items and their dtype. Out: `Guarded`, whose `array` is next to such a page.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """`count` items of memory between two inaccessible pages, next to the page after it or before
    it."""

    def __init__(self, count: int, dtype: Any, at_end: bool) -> None:
        page, size = mmap.PAGESIZE, count * np.dtype(dtype).itemsize
        inner = max(1, -(-size // page)) * page
        self._map = mmap.mmap(-1, inner + 2 * page)
        whole = np.frombuffer(self._map, np.uint8)
        for guard in (whole.ctypes.data, whole.ctypes.data + page + inner):
            assert _LIBC.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
        start = page + (inner - size if at_end else 0)
        self.array = whole[start : start + size].view(dtype)
