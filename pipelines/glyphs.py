"""Figures with any characters: `any_characters`.

In: nothing. Out: a block in which matplotlib draws texts without warnings.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["any_characters"]


@contextmanager
def any_characters() -> Iterator[None]:
    """Print no warning for characters that the font lacks. matplotlib draws boxes for them.

    Names of classes may have such characters, and there would be a warning for each of them.
    """
    with warnings.catch_warnings():
        for words in ("Glyph ", "Matplotlib currently does not support "):
            warnings.filterwarnings("ignore", words)
        yield
