"""`Finding`: one line of the report of `slipform doctor`; `gib`: how the report writes sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["GIB", "Finding", "State", "gib"]

State = Literal["ok", "optional", "needed"]
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        section: The heading, such as "Packages".
        name: What was checked.
        text: The result of the check, for people.
        value: The result for programs: plain JSON, sizes in bytes, speeds in FLOP/s.
        state: "ok"; "optional": something is missing, but training works without it; "needed":
            training does not work without it.
        mend: The command that fixes it; "" where nothing is missing.
    """

    section: str
    name: str
    text: str
    value: Any
    state: State = "ok"
    mend: str = ""


def gib(size: float) -> str:
    """A size as text, such as "1.5 GiB".

    Args:
        size: Bytes.
    """
    return f"{size / GIB:.1f} GiB"
