"""What may happen between two lines of a function: `traced`; `between_lines` for other threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def between_lines(act: Callable[[], object]) -> Iterator[None]:
    """Call `act` before each line of Python that is run by functions called in the block."""

    def trace(frame: Any, event: str, argument: Any) -> Any:
        act()
        return trace

    with traced(trace):
        yield


@contextmanager
def traced(trace: Callable[[Any, str, Any], Any]) -> Iterator[None]:
    """Call a trace function for functions called in the block, as `sys.settrace` does."""
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
