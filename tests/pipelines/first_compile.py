"""Lets numba compile a function: its first one in a process takes seconds more than others.

In: nothing. Out: numba, ready to compile, in this process, before it forks. No module of Slipform
is imported.
"""

from __future__ import annotations

import numba


@numba.njit
def _tenfold(x: int) -> int:
    return 10 * x


_tenfold(1)
