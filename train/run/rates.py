"""A speed as text, for the progress line and for messages.

In: images per second. Out: text.
"""

from __future__ import annotations

__all__ = ["rate_text"]


def rate_text(per_second: float) -> str:
    """A speed as text: "15,679 images/s", "1.7 images/s".

    Args:
        per_second: Images per second.
    """
    return f"{per_second:,.0f} images/s" if per_second >= 10 else f"{per_second:.2g} images/s"
