"""One thing that `slipform doctor` found, and how sizes are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "optional", "needed"]
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        section: Its heading, such as "Packages".
        name: What was looked at.
        text: What was found, for people.
        value: The same for programs: plain JSON, sizes in bytes, speeds in FLOP/s.
        state: "ok"; "optional": something is missing that training does without; "needed":
            training does not work without it.
        mend: The command that mends it; empty where nothing is missing.
    """

    section: str
    name: str
    text: str
    value: Any
    state: State = "ok"
    mend: str = ""


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
