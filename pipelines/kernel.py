"""`kernel`: numba.njit with a cache on disk that notices changes in what a function calls.

In: a function. Out: its compiled form, which releases the GIL. Numba stamps a cached function with
its own file's time only, but compiles the functions that it calls into it: after an edit, or an
update, of another file it would go on running old code. Here the stamp covers every source file of
the package (tests/pipelines/test_kernel.py shows it).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorator, with or without numba's own options (fastmath, ...)."""
    if function is None:
        return lambda f: kernel(f, **options)
    dispatcher = njit(cache=True, nogil=True, boundscheck=False, error_model="numpy", **options)(
        function
    )
    dispatcher._cache._cache_file._source_stamp = _stamp()
    return dispatcher


@cache
def _stamp() -> tuple[tuple[str, int, int], ...]:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
