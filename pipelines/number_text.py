"""A number as text for people: `number_text`, `number_of`.

In: a number of any size. Out: a few digits. Python's format "g" alone writes 12345 as 1.234e+04.
"""

from __future__ import annotations

__all__ = ["number_of", "number_text"]

_WRITTEN_OUT = 1e12  # a larger number, such as the loss of a run that diverges, has an exponent


def number_text(value: float, digits: int = 4) -> str:
    """A number as text: "0.01235", "12.35", "12,345".

    Args:
        value: The number.
        digits: The significant digits. A whole number with more digits has all of them.
    """
    written_out = 10**digits - 0.5 <= abs(value) < _WRITTEN_OUT
    return f"{value:,.0f}" if written_out else f"{value:.{digits}g}"


def number_of(count: int, noun: str) -> str:
    """A count of things: "1 core", "2 cores".

    Args:
        count: Their number.
        noun: The word for one of them; its plural ends with s.
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
