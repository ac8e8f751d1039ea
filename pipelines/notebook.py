"""A progress line in a notebook: one output of the cell, whose text is replaced.

In: text. Out: an output of the running cell. A carriage return also replaces a line, but the
notebook's file would keep every version of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["NotebookLine", "in_notebook"]

_SECONDS = 0.5  # between two updates
_COLUMNS = 100


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, whose front end can display outputs."""
    # A kernel has imported IPython already. Other processes need not import it.
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookLine:
    """A line of text below a cell, from `start` to `stop`.

    Args:
        line: Returns the text for a maximum number of characters.
        clock: Returns seconds; tests give their own.

    Attributes:
        is_started: Whether the line is shown.
    """

    def __init__(
        self, line: Callable[[int], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._line, self._clock = line, clock
        self._output: Any = None
        self._shown_at = 0.0
        self.is_started = False

    def start(self) -> None:
        """Open the output."""
        from IPython.display import DisplayHandle

        self.is_started = True
        if self._output is None:
            self._output = DisplayHandle()
            self._output.display(self._content(self._line(_COLUMNS)), raw=True)

    def refresh(self) -> None:
        """Show the present text, at most twice a second."""
        if self.is_started and self._clock() - self._shown_at >= _SECONDS:
            self._show(self._line(_COLUMNS))

    def stop(self) -> None:
        """Replace the text by an empty line."""
        if self.is_started:
            self.is_started = False
            self._show("")

    def _show(self, text: str) -> None:
        self._shown_at = self._clock()
        self._output.update(self._content(text), raw=True)

    @staticmethod
    def _content(text: str) -> dict[str, str]:
        return {"text/plain": text}
