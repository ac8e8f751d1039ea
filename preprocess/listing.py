"""What was found below a source folder: files used, files left out and why, links followed.

In: what the readers of folders note. Out: `Listing`, from which the account and
report.txt are made.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Listing:
    """Every entry below a source folder.

    Attributes:
        layout: How the folder was understood, in words.
        used: Files taken as images, by ending.
        left_out: (path below the source, reason) of each file or folder that was passed over.
        linked: Linked folders that were followed.
        notes: What else a person should know, one sentence each.
    """

    layout: str = ""
    used: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, path: str, reason: str) -> None:
        """Note that a file or folder was passed over."""
        self.left_out.append((path, reason))
